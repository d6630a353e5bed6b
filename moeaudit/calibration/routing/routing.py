r"""Calibration conditional on routing: E[correct - confidence | what the router did, confidence].

A model may be calibrated on average because one expert's over-confidence makes up for another's
lack of it. Each cell (a group of tokens, a range of confidence) is tested for a residual of zero,
with one family-wise correction over all cells: whole documents flip their sign (max-T). Where errors
(or right answers) are too few for that, outcomes are drawn instead (`scores.rare`). Cells found
in one set of documents are tested again, each once, in documents of another domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.stats.families.maxt import max_t

from ..predictions.predictions import Predictions
from ..scores.intervals import mean_limits
from ..scores.rare import correlation, events_of
from ..scores.resample import Resamples, widening
from ..scores.stratum import Stratum
from .cells import ALL, Cell, bin_of, check, group_cells, lack_of
from .rare_cells import rare_cells, rare_excess
from .replication import disjoint, replicated

BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MIN_SIZE = 100


def routing_calibration(
    predictions: Predictions,
    groups: Mapping[str, Any],
    *,
    bins: Sequence[float | int] = BINS,
    min_size: int = MIN_SIZE,
    replication: Predictions | None = None,
    replication_groups: Mapping[str, Any] | None = None,
    alpha: float = 0.05,
    n_flips: int = 10_000,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Signed residuals of every routing group, with family-wise control and a replication.

    Parameters
    ----------
    groups
        Named groupings, each a label per prediction: {"layer 3 top-1": [...], "entropy": [...]}.
    bins
        Edges of the confidence ranges. Each group also has a row "all" over every confidence.
    min_size
        Cells with fewer rows (or fewer than 5 documents) are listed with the reason, not tested.
    replication, replication_groups
        The same of another domain's documents, labelled by the same rule.

    Returns one row per (grouping, group, bin): n, n_documents, confidence, accuracy, residual
    (correct - confidence: negative is over-confident) with a percentile interval over documents
    (low, high; Clopper and Pearson's where errors are rare), p (unadjusted: sign flips, or drawn
    outcomes where `null` says so), p_maxt (over all tested cells of the table), null, verdict
    ("over-confident", "under-confident", "not shown"); excess (residual minus that of all tokens
    in the same bin: what routing adds to knowing the confidence) with excess_p_maxt; and if there
    is a replication n_2, n_documents_2, residual_2, p_2 (one-sided, in the direction found, Holm
    over the cells found) and survives (True, False, or None with reason_2).

    Raises InputError for groupings that are empty or of the wrong length, an alpha outside (0, 1),
    documents that are in both sets, and a replication without groups.
    """
    check(predictions, groups, bins, alpha)
    if (replication is None) != (replication_groups is None):
        raise InputError("A replication needs its predictions and their groups; give both.")
    cells = group_cells(predictions, groups, bins)
    resamples = Resamples(predictions.n_documents, draws, seed)
    unit = resamples.unit_of[predictions.documents]
    table = _describe(predictions, cells, unit, resamples, min_size)
    tested = np.flatnonzero(table["reason"].isna().to_numpy())
    for column in ("p", "p_maxt", "excess", "excess_p_maxt"):
        table[column] = np.nan
    table["verdict"] = "not estimable"
    table["null"] = pd.Series([None] * len(table), dtype=object)
    rare = np.array([events_of(predictions.take(cells[k].rows)).rare for k in tested], bool)
    often, seldom = tested[~rare], tested[rare]
    # Two families, each with its cells' share of alpha: a weighted Bonferroni over them.
    table.loc[often, "null"], table.loc[seldom, "null"] = "signs of documents", "drawn outcomes"
    of_often, of_seldom = (len(tested) / max(len(part), 1) for part in (often, seldom))
    if len(often):
        plain, relative = _sums(
            predictions, [cells[k] for k in often], unit, resamples.n_units, bins
        )
        found = max_t(plain, n_flips=n_flips, alpha=alpha, seed=seed)
        table.loc[often, "p"] = found.p_flip
        table.loc[often, "p_maxt"] = np.minimum(found.p_maxt * of_often, 1)
        more = max_t(relative, n_flips=n_flips, alpha=alpha, seed=seed)
        table.loc[often, "excess_p_maxt"] = np.minimum(more.p_maxt * of_often, 1)
    if len(seldom):
        few, rho = [cells[k] for k in seldom], correlation(predictions)
        drawn = rare_cells(predictions, few, rho, n_flips, seed)
        table.loc[seldom, "p"] = drawn.p
        table.loc[seldom, "p_maxt"] = np.minimum(drawn.p_maxt * of_seldom, 1)
        beyond = rare_excess(predictions, few, bins, rho, n_flips, seed)
        table.loc[seldom, "excess_p_maxt"] = np.minimum(beyond.p_maxt * of_seldom, 1)
    if len(tested):
        relative = _sums(predictions, [cells[k] for k in tested], unit, resamples.n_units, bins)[1]
        weight = np.array([predictions.weights[cells[k].rows].sum() for k in tested])
        table.loc[tested, "excess"] = relative.sum(axis=0) / weight
        over = table["residual"] < 0
        shown = (table["p_maxt"] <= alpha).to_numpy()
        table.loc[tested, "verdict"] = np.where(
            shown, np.where(over, "over-confident", "under-confident"), "not shown"
        )[tested]
    if replication is not None and replication_groups is not None:
        check(replication, replication_groups, bins, alpha)
        disjoint(predictions, replication)
        second = replicated(
            table, replication, replication_groups, bins, min_size, alpha, n_flips, seed
        )
        table = pd.concat([table, second], axis=1)
    return table


def _describe(
    predictions: Predictions,
    cells: list[Cell],
    unit: np.ndarray,
    resamples: Resamples,
    min_size: int,
) -> pd.DataFrame:
    """What each cell holds, its mean residual with the interval, or why it has none."""
    w, document = predictions.weights, predictions.documents
    correct = predictions.correct.astype(np.float64)
    table = []
    for cell in cells:
        rows, weight = cell.rows, w[cell.rows]
        inside = len(np.unique(document[rows]))
        reason = lack_of(predictions, rows, min_size)
        total = weight.sum()
        mean = [np.nan] * 2
        if total > 0:
            mean = [float(weight @ v[rows] / total) for v in (predictions.confidence, correct)]
        low = high = np.nan
        if reason is None:
            residual = weight * (correct - predictions.confidence)[rows]
            sums, size = (
                np.bincount(unit[rows], x, minlength=resamples.n_units) for x in (residual, weight)
            )
            drawn, part = (resamples.counts @ x for x in (size, sums))
            part_of = predictions.take(rows)
            if events_of(part_of).rare:
                few = Stratum(cell.group, part_of, unit[rows], resamples, 1, 0.95, 0)
                high, low = (-x for x in few.rare_means["gap"])
            else:
                wider = widening(min(part_of.counted_documents, resamples.n_units), 0.95)
                low, high = mean_limits(
                    mean[1] - mean[0], part[drawn > 0] / drawn[drawn > 0], 0.95, wider
                )
        table.append(
            {
                "grouping": cell.grouping,
                "group": cell.group,
                "bin": cell.bin,
                "n": len(rows),
                "n_documents": inside,
                "confidence": mean[0],
                "accuracy": mean[1],
                "residual": mean[1] - mean[0],
                "low": low,
                "high": high,
                "reason": reason,
            }
        )
    frame = pd.DataFrame(table)
    frame["reason"] = frame["reason"].astype(object).where(frame["reason"].notna(), None)
    return frame


def _sums(
    predictions: Predictions,
    cells: list[Cell],
    unit: np.ndarray,
    n: int,
    bins: Sequence[float | int],
) -> tuple[np.ndarray, np.ndarray]:
    """Document sums of each cell's residual, and of its excess over all tokens of its bin.

    The excess subtracts the bin's mean residual, which is estimated too: a document's part in that
    mean is taken off, so that the sums are right to first order (they are influences).
    """
    w = predictions.weights
    residual = predictions.correct - predictions.confidence
    place = bin_of(predictions.confidence, bins)
    of_bin: dict[tuple[float, float], tuple[float, np.ndarray, float]] = {}
    plain, relative = [], []
    for cell in cells:
        key = (cell.low, cell.high)
        if key not in of_bin:
            inside = np.ones(len(w), bool)
            if cell.bin != ALL:
                inside = place == list(bins).index(cell.low)
            mean = float(np.average(residual[inside], weights=w[inside]))
            part = np.where(inside, w * (residual - mean), 0.0)
            of_bin[key] = (mean, np.bincount(unit, part, minlength=n), float(w[inside].sum()))
        mean, off, total = of_bin[key]
        rows, weight = cell.rows, w[cell.rows]
        plain.append(np.bincount(unit[rows], weight * residual[rows], minlength=n))
        own = np.bincount(unit[rows], weight * (residual[rows] - mean), minlength=n)
        relative.append(own - weight.sum() / total * off)
    return np.stack(plain, axis=1), np.stack(relative, axis=1)
