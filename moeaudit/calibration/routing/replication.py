"""Cells found in one set of documents, tested once more in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.stats.families.maxt import max_t

from ..predictions.predictions import Predictions
from ..scores.rare import correlation, events_of
from ..scores.resample import Resamples
from .cells import group_cells, lack_of
from .rare_cells import rare_cells


def disjoint(first: Predictions, second: Predictions) -> None:
    if first.document is None or second.document is None:
        raise InputError(
            "A replication needs the document of every prediction on both sides: without them "
            "nobody can tell that its documents are others."
        )
    shared = set(np.unique(first.document).tolist()) & set(np.unique(second.document).tolist())
    if shared:
        raise InputError(
            f"{len(shared)} document(s) are in both sets, the first {sorted(shared, key=str)[0]!r}."
            " A replication must use other documents; give documents of the two sets different "
            "names if only their numbers coincide."
        )


def replicated(
    table: pd.DataFrame,
    predictions: Predictions,
    groups: Mapping[str, Any],
    bins: Sequence[float | int],
    min_size: int,
    alpha: float,
    n_flips: int,
    seed: int,
) -> pd.DataFrame:
    """The found cells once more in other documents, one-sided, Holm over those that can be tested."""
    cells = {(c.grouping, c.group, c.bin): c for c in group_cells(predictions, groups, bins)}
    out = pd.DataFrame(
        {
            "n_2": 0,
            "n_documents_2": 0,
            "residual_2": np.nan,
            "p_2": np.nan,
            "survives": pd.Series([None] * len(table), dtype=object),
            "reason_2": pd.Series([None] * len(table), dtype=object),
        },
        index=table.index,
    )
    resamples = Resamples(predictions.n_documents, 1, seed)
    unit = resamples.unit_of[predictions.documents]
    one_sided: dict[int, float] = {}
    rho: float | None = None
    for k, row in enumerate(table.to_dict("records")):
        cell = cells.get((row["grouping"], row["group"], row["bin"]))
        rows = np.empty(0, np.int64) if cell is None else cell.rows
        weight, document = predictions.weights[rows], predictions.documents[rows]
        residual = (predictions.correct - predictions.confidence)[rows]
        documents = len(np.unique(document))
        out.loc[k, ["n_2", "n_documents_2"]] = len(rows), documents
        if weight.sum() > 0:
            out.loc[k, "residual_2"] = float(weight @ residual / weight.sum())
        lack = lack_of(predictions, rows, min_size)
        if row["verdict"] not in ("over-confident", "under-confident"):
            lack = "nothing was found that could be replicated"
        out.loc[k, "reason_2"] = lack
        if lack is None and cell is not None and events_of(predictions.take(rows)).rare:
            rho = correlation(predictions) if rho is None else rho
            drawn = rare_cells(predictions, [cell], rho, n_flips, seed)
            one_sided[k] = float((drawn.p_lower if row["residual"] < 0 else drawn.p_upper)[0])
        elif lack is None:
            sums = np.bincount(unit[rows], weight * residual, minlength=resamples.n_units)
            result = max_t(sums[:, None], n_flips=n_flips, alpha=alpha, seed=seed)
            same = (result.statistic[0] < 0) == (row["residual"] < 0)
            p = float(result.p_flip[0])
            one_sided[k] = p / 2 if same else 1 - p / 2
    order = sorted(one_sided, key=lambda k: one_sided[k])
    running = 0.0
    for step, k in enumerate(order):
        running = max(running, min(1.0, (len(order) - step) * one_sided[k]))
        out.loc[k, "p_2"] = running
        out.loc[k, "survives"] = bool(running <= alpha)
    return out
