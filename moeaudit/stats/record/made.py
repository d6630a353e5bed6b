"""How a table was made, carried in its `attrs`, so that it can be held against a declaration.

`attrs["analyses"]` is a list of records in plain JSON types, one for each question and outcome; Parquet
files keep it. pandas drops `attrs` when it concatenates, `together` does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..contrast.checks import metrics_table
from ..contrast.protocol import Protocol

KEY = "analyses"


def record(
    question: str,
    outcome: str,
    recipe: Protocol,
    *,
    metrics: Sequence[str],
    layers: Sequence[int],
    controls: Sequence[str],
    seed: int,
    documents: Iterable[Any],
    scores: Any,
    **further: Any,
) -> dict[Any, Any]:
    """The `attrs` of one table. `metrics` are those in its family, `scores` the table they came in."""
    names = [str(name) for name in documents]
    made = {
        "question": question,
        "outcome": outcome,
        "metrics": [str(m) for m in metrics],
        "layers": [int(y) for y in layers],
        "controls": [str(c) for c in controls],
        "protocol": plain(recipe),
        "seed": int(seed),
        "documents": len(names),
        "data": {
            "documents": documents_sha256(names),
            "metrics": None if callable(scores) else metrics_sha256(scores),
        },
        **further,
    }
    return {KEY: [made]}


def plain(recipe: Protocol) -> dict[str, Any]:
    """A protocol in JSON types."""
    values = dataclasses.asdict(recipe)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def documents_sha256(documents: Iterable[Any]) -> str:
    """Hash of which documents: their names, sorted as text."""
    return hashlib.sha256("\n".join(sorted(map(str, documents))).encode()).hexdigest()


def metrics_sha256(scores: Any) -> str:
    """Hash of a table of expert metrics (layer, expert, metric, value), whatever its row order."""
    table = metrics_table(scores)
    order = np.lexsort((table["expert"], table["layer"], table["metric"].astype(str)))
    table = table.iloc[order]
    digest = hashlib.sha256("\n".join(table["metric"].astype(str)).encode())
    for name, kind in (("layer", "<i8"), ("expert", "<i8"), ("value", "<f8")):
        digest.update(table[name].to_numpy().astype(kind).tobytes())
    return digest.hexdigest()


def analyses(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """The records of a table by (question, outcome)."""
    return {(m["question"], m["outcome"]): m for m in table.attrs.get(KEY, [])}


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables under each other, as `pd.concat(ignore_index=True)`, with the records of all of them."""
    whole = pd.concat(list(tables), ignore_index=True)
    whole.attrs = {KEY: [made for table in tables for made in table.attrs.get(KEY, [])]}
    return whole
