"""A comparison as a small HTML table for a notebook, and as plain JSON values."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.store.question import plain

from ..pages.tables import rows_of
from ..words.evidence import outcome_name
from ..words.numbers import significant
from .words import difference, number, verdict_words

if TYPE_CHECKING:
    from .result import Compared

PLACES = ("third", "layer", "expert")
TABLES = ("whole", "thirds", "layers", "cells", "ranks", "verdicts", "agreement", "profile")


def small_table(table: Frame, caption: str) -> str:
    """An HTML table of differences, a few kilobytes. All text is escaped."""
    places = [name for name in PLACES if name in table]
    heads = ["outcome", *places, "A", "other", "A less other, with limits", "verdict"]
    rows = [
        [
            outcome_name(row["outcome"]),
            *(row[name] for name in places),
            significant(number(row["mean_a"]), 3),
            f"{row['b']}: {significant(number(row['mean_b']), 3)}",
            difference(row),
            verdict_words(row["verdict"], row["a"], row["b"]),
        ]
        for row in rows_of(table)
    ]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    head = f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>"


def as_dict(compared: Compared) -> dict[str, Any]:
    """Runs, how they were compared, sentences and every table (a list of rows), ready for JSON."""
    runs = [
        {
            "letter": side.letter,
            "name": side.name,
            "folder": str(side.run.folder),
            "spec_hash": side.run.record["spec_hash"],
            "finished": side.run.record.get("finished"),
        }
        for side in compared.sides
    ]
    pairs = [
        {
            "a": pair.a.letter,
            "b": pair.b.letter,
            "across": list(pair.asked.across),
            "fields": [{"field": f, "a": x, "b": y} for f, x, y in pair.asked.fields],
            "documents": dict(zip(("only_a", "both", "only_b"), pair.documents)),
            "correspondence": None
            if (found := pair.correspondence) is None
            else {"shared": found.shared, "shuffled": found.shuffled, "p": found.p},
        }
        for pair in compared.pairs
    ]
    how = compared.how
    return plain(
        {
            "runs": runs,
            "pairs": pairs,
            "outcomes": compared.outcomes,
            "sesoi": how.sesoi,
            "alpha": how.alpha,
            "level": how.level,
            "seed": how.seed,
            "identical": compared.identical,
            "sentences": compared.sentences,
            "not_compared": compared.not_compared,
            **{name: records(getattr(compared, name)) for name in TABLES},
        }
    )


def records(table: Frame) -> list[dict[str, Any]]:
    """Rows as plain Python values; null for what has no number."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
