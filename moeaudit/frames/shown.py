"""How results show themselves in a notebook and in plain text: a sentence, a small table, notes.

Text is escaped wherever it comes from, colours are the page's own (light or dark), and a cell stays small however
large the result is.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

ROWS = 12  # of a table that stands under a sentence
CHARACTERS = 300  # of one text; the rest is counted


def clip(text: object, most: int = CHARACTERS) -> str:
    """A text on one line, cut with the number of characters that are left out."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[:most]}... ({len(line) - most:,} more characters)"


def paragraph(text: object) -> str:
    return f"<p>{html.escape(str(text))}</p>"


def bullets(notes: Iterable[object], most: int = 20) -> str:
    """Notes as a list, the first of many; nothing if there are none."""
    said = [str(note) for note in notes]
    rest = [f"and {len(said) - most:,} more notes (.notes)"] if len(said) > most else []
    lines = "".join(f"<li>{html.escape(clip(note, 1000))}</li>" for note in [*said[:most], *rest])
    return f"<ul>{lines}</ul>" if lines else ""


def rows(pairs: Iterable[tuple[object, object]]) -> str:
    """Names and values side by side."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(str(name))}</th>"
        f"<td style='text-align:left'>{html.escape(clip(value, 1000))}</td></tr>"
        for name, value in pairs
    )
    return f"<table>{cells}</table>"


def table(frame: Any, columns: Sequence[str] = (), most: int = ROWS) -> str:
    """The columns that are there, of the first rows; how many rows are left out stands below."""
    part, left = _part(frame, columns, most)
    found = part.to_html(index=False, na_rep="", escape=True, float_format=_number, border=0)
    return found + (paragraph(left) if left else "")


def _part(frame: Any, columns: Sequence[str], most: int) -> tuple[Any, str]:
    import pandas as pd  # not where a sentence is all that is shown

    plain = pd.DataFrame(frame)
    kept = [name for name in columns if name in plain] or list(plain.columns)
    part: Any = plain.loc[:, kept].head(most).copy()
    for name in part:
        if part[name].dtype == object or isinstance(part[name].dtype, pd.StringDtype):
            part[name] = [v if pd.api.types.is_number(v) else _text(v) for v in part[name]]
    said = []
    if len(plain) > len(part):
        said.append(f"{len(plain) - len(part):,} more rows")
    if hidden := len(plain.columns) - len(kept):
        said.append(f"{hidden} more columns (list(table))")
    return part, f"and {' and '.join(said)}" if said else ""


def _text(value: Any) -> str:
    return (
        ""
        if value is None or type(value).__name__ == "NAType" or value != value
        else clip(value, 160)
    )


def _number(value: Any) -> str:
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
