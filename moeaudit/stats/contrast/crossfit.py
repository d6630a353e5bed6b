"""The metrics that a document's tokens are scored by: one table for all, or one for each fold.

Metrics and effects must not come from the same documents. With two sets of documents that is easily
had (`moeaudit audit` does it so). With one set, cross-fitting uses every document for both and
never for both at once: the tokens of a fold are scored by metrics from the other folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from .cells import metric_score
from .checks import metrics_table
from .controls import document_folds
from .slots import Slots

Measure = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class Scores:
    """Metric tables, and which of them scores each document (by code); one table scores them all."""

    tables: list[pd.DataFrame]
    fold: Int[np.ndarray, " documents"]
    names: list[str]

    @property
    def known(self) -> set[str]:
        """Names of the metrics that have a value for some expert."""
        return {str(name) for t in self.tables for name in t.loc[t["value"].notna(), "metric"]}

    def of(self, slots: Slots, name: str) -> Float[np.ndarray, "tokens top_k"]:
        """The metric of each slot's expert, NaN where it has none."""
        score = np.full(slots.expert.shape, np.nan)
        fold = self.fold[slots.document]
        for number, table in enumerate(self.tables):
            mine = fold == number
            if mine.any():
                rows = table.loc[(table["layer"] == slots.layer) & (table["metric"] == name)]
                expert, value = rows["expert"].to_numpy(np.int64), rows["value"].to_numpy(float)
                score[mine] = metric_score(slots, expert, value)[mine]
        return score

    def values(
        self, number: int, layer: int, name: str, expert: Int[np.ndarray, " experts"]
    ) -> Float[np.ndarray, " experts"]:
        """A metric in one table, by expert; NaN where it has no value."""
        table = self.tables[number]
        rows = table.loc[(table["layer"] == layer) & (table["metric"] == name)]
        return rows.set_index("expert")["value"].reindex(expert).to_numpy(float)

    def described(self, layer: int) -> np.ndarray:
        """Experts of a layer that any metric describes."""
        parts = [
            t.loc[(t["layer"] == layer) & t["value"].notna(), "expert"].to_numpy(np.int64)
            for t in self.tables
        ]
        return np.unique(np.concatenate(parts))


def scores_of(
    metrics: Any, documents: list[Any], n_folds: int, seed: int, check: Callable[[Any], None]
) -> Scores:
    """Scores from a table, or from a callable that measures metrics on the documents it is given.

    Parameters
    ----------
    metrics
        A table layer, expert, metric, value; or `measure(documents) -> table`, called once a fold
        with the documents of all *other* folds.
    documents
        The documents of the effects, in the order of their codes.
    check
        Called with every table as it came.

    Raises InputError if folds name different metrics, or for fewer than 2 documents to fold.
    """
    if not callable(metrics):
        check(metrics)
        table = _named(metrics_table(metrics))
        return Scores([table], np.zeros(len(documents), dtype=np.int64), _names(table))
    fold = document_folds(len(documents), n_folds, seed)
    tables = []
    for number in range(int(fold.max()) + 1):
        given = metrics([d for d, f in zip(documents, fold) if f != number])
        check(given)
        tables.append(_named(metrics_table(given)))
    names = _names(tables[0])
    for number, table in enumerate(tables):
        if set(_names(table)) != set(names):
            raise InputError(
                f"Cross-fitted metrics must be the same in every fold; fold {number} gives "
                f"{', '.join(_names(table))} and fold 0 gives {', '.join(names)}."
            )
    return Scores(tables, fold, names)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(metric=table["metric"].astype(str))


def _names(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["metric"]))
