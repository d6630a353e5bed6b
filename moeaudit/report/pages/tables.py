"""HTML tables with the anatomy a paper expects: caption, header, stub, footnotes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from moeaudit.frames import Frame

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: its heading and how a row's entry is written. The first column is the stub.

    `value` gives the entry in full, a number or a word, by which a reader may sort and which a downloaded file
    holds; without it these are the words as written. `ends`: behind it stand limits, which the file holds as
    columns of their own. `mark` names the cells for a script that changes them.
    """

    heading: str
    write: Callable[[Row], object]
    text: bool = False
    css: Callable[[Row], str] | None = None
    value: Callable[[Row], object] | None = None
    ends: Callable[[Row], tuple[object, object]] | None = None
    mark: str = ""


def number(
    heading: str, write: Callable[[Row], object], column: str, limits: bool = False
) -> Column:
    """A column of `row[column]`, in full in the file; with `limits`, `<column>_low` and `<column>_high` as well."""
    ends = (lambda r: (r[f"{column}_low"], r[f"{column}_high"])) if limits else None
    return Column(heading, write, value=lambda r: r[column], ends=ends)


def rows_of(frame: Frame) -> list[dict[str, Any]]:
    """The rows of a frame as dictionaries keyed by column name; a text that is not there is None."""
    words = {str(k) for k in frame if not pd.api.types.is_numeric_dtype(frame[k])}
    return [
        {str(k): None if str(k) in words and _absent(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]


def _absent(value: object) -> bool:
    """A gap in a column of words: pandas reads it back as NaN."""
    return value is pd.NA or (isinstance(value, float) and value != value)


def table(
    rows: Iterable[Row], columns: list[Column], caption: str, footnotes: Iterable[str] = ()
) -> Markup:
    """A table in a box that scrolls sideways on narrow screens. All text is escaped."""
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(
            Markup("") if c.text else Markup(' class="n"'), c.heading
        )
        for c in columns
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>\n").format(
            Markup("").join(_cell(c, row, stub=i == 0) for i, c in enumerate(columns))
        )
        for row in rows
    )
    notes = Markup("").join(Markup("<p>{}</p>").format(note) for note in footnotes)
    if notes:
        notes = Markup('<div class="footnotes">{}</div>').format(notes)
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table>'
        "<caption>{}</caption><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table></div>{}"
    ).format(caption, caption, head, body, notes)


def folded(summary: str, content: Markup) -> Markup:
    """Content behind a disclosure triangle, which opens without scripts."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, content)


def _cell(column: Column, row: Row, stub: bool) -> Markup:
    written = column.write(row)
    classes = [] if column.text else ["n"]
    if column.css is not None and (extra := column.css(row)):
        classes.append(extra)
    attributes = Markup(' class="{}"').format(" ".join(classes)) if classes else Markup("")
    if column.value is not None:
        attributes += Markup(' data-value="{}"').format(_full(column.value(row)))
    if column.ends is not None:
        attributes += Markup(' data-low="{}" data-high="{}"').format(*map(_full, column.ends(row)))
    if column.mark:
        attributes += Markup(' data-of="{}"').format(column.mark)
    if stub:
        return Markup('<th scope="row"{}>{}</th>').format(attributes, escape(written))
    return Markup("<td{}>{}</td>").format(attributes, escape(written))


def _full(value: object) -> str:
    """A value for a file: a number with what single precision holds; nothing for a gap."""
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:.9g}" if isinstance(value, float | np.floating) else str(value)
