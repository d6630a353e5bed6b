"""Rank correlation of two columns whose rows belong to documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from moeaudit.errors import InputError, one_of

from ..contrast.checks import finite
from ..sizes.bootstrap import bca_limits, document_weights, percentile_limits
from ..sizes.effect_sizes import EffectSize
from ..sizes.limits import jackknife_se, student_limits
from .correlation import kendall_limits, spearman_limits


def association(
    name: str,
    x: Float[np.ndarray, " items"],
    y: Float[np.ndarray, " items"],
    document: np.ndarray | None = None,
    *,
    interval: str = "percentile",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> EffectSize:
    """Spearman's rho or Kendall's tau-b (scipy's) of two columns, resampled by document.

    `interval`: percentile, bca, jackknife (of documents), or "token" (analytic, items independent:
    Bonett & Wright 2000 for rho, Fieller, Hartley & Pearson 1957 for tau).
    """
    one_of(name, ("spearman", "kendall"), "association")
    one_of(interval, ("percentile", "bca", "jackknife", "token"), "interval of a rank correlation")
    finite(x, "x", "items")
    finite(y, "y", "items")
    if not len(x) == len(y) == len(x if document is None else document):
        raise InputError(
            f"A correlation needs columns of one length: {len(x)} x, {len(y)} y"
            + ("." if document is None else f", {len(document)} documents.")
        )
    test = stats.spearmanr if name == "spearman" else stats.kendalltau

    def statistic(items: np.ndarray) -> float:
        result: Any = test(x[items], y[items])
        return float(result.statistic)

    codes = np.arange(len(x)) if document is None else np.unique(document, return_inverse=True)[1]
    d, nan = int(codes.max(initial=-1)) + 1, float("nan")
    flat = len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0
    if flat or d < 2:
        why = "one of the columns is constant or too short" if flat else "there is only 1 document"
        return EffectSize(name, nan, nan, nan, nan, interval, level, why)
    everything = np.arange(len(x))
    estimate = statistic(everything)
    kept = [everything[codes != k] for k in range(d)]
    if any(len(k) < 2 or np.ptp(x[k]) == 0 or np.ptp(y[k]) == 0 for k in kept):
        why = "leaving one document out leaves a column constant or too short"
        return EffectSize(name, estimate, nan, nan, nan, interval, level, why)
    left = np.array([statistic(k) for k in kept])
    se = jackknife_se(left)
    if interval == "token":
        limits = spearman_limits if name == "spearman" else kendall_limits
        low, high = limits(estimate, len(x), level)
    elif interval == "jackknife":
        low, high = student_limits(estimate, se, d - 1, level)
    else:
        weights = document_weights(d, n_boot, seed).astype(np.int64)
        draws = np.array([_resampled(statistic, everything, w[codes], x, y) for w in weights])
        draws = draws[np.isfinite(draws)]
        if interval == "percentile":
            low, high = percentile_limits(draws, level)
        else:
            low, high = bca_limits(estimate, draws, left, level)
    why = (
        None if np.isfinite([low, high]).all() else "too few items or replicates for this interval"
    )
    if why is not None:
        low = high = nan
    return EffectSize(name, estimate, low, high, se, interval, level, why)


def _resampled(
    statistic: Callable[[np.ndarray], float],
    items: np.ndarray,
    times: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> float:
    drawn = np.repeat(items, times)
    if np.ptp(x[drawn]) == 0 or np.ptp(y[drawn]) == 0:
        return float("nan")
    return statistic(drawn)
