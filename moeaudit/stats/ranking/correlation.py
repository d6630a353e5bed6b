"""Rank correlations of one metric with many replicates of a quantity, row by row."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float


def spearman_rows(
    x: Float[np.ndarray, "metrics experts"], y: Float[np.ndarray, "sets experts"]
) -> Float[np.ndarray, "sets metrics"]:
    """Spearman's rho (midranks) of every row of y with every row of x; NaN where a row is constant."""
    return standard_ranks(y) @ standard_ranks(x).T


def paired_spearman(
    a: Float[np.ndarray, "sets experts"], b: Float[np.ndarray, "sets experts"]
) -> Float[np.ndarray, " sets"]:
    """Spearman's rho of each row of a with the same row of b."""
    return (standard_ranks(a) * standard_ranks(b)).sum(axis=1)


def standard_ranks(values: Float[np.ndarray, "sets experts"]) -> Float[np.ndarray, "sets experts"]:
    """Midranks of each row, centred and of length 1: their products are Spearman's rho. NaN if constant."""
    return _standard(scipy.stats.rankdata(values, axis=1))


def kendall_rows(
    x: Float[np.ndarray, "metrics experts"], y: Float[np.ndarray, "sets experts"], block: int = 256
) -> Float[np.ndarray, "sets metrics"]:
    """Kendall's tau-b of every row of y with every row of x (Kendall 1945, ties corrected)."""
    i, j = np.triu_indices(x.shape[1], k=1)
    sign_x = np.sign(x[:, i] - x[:, j])  # (metrics, pairs)
    norm_x = np.sqrt((sign_x**2).sum(axis=1))
    parts = []
    for start in range(0, len(y), block):
        rows = y[start : start + block]
        sign_y = np.sign(rows[:, i] - rows[:, j])
        norm = np.sqrt((sign_y**2).sum(axis=1))[:, None] * norm_x
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(np.where(norm > 0, sign_y @ sign_x.T / norm, np.nan))
    return np.concatenate(parts)


def spearman_limits(rho: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Analytic interval of Spearman's rho over n independent pairs.

    Fisher's z with standard error sqrt((1 + rho^2 / 2) / (n - 3)) (Bonett & Wright 2000).
    """
    return _fisher(rho, np.sqrt((1 + rho**2 / 2) / (n - 3)) if n > 3 else np.nan, level)


def kendall_limits(tau: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Analytic interval of Kendall's tau: Fisher's z, standard error sqrt(0.437 / (n - 4)).

    Fieller, Hartley & Pearson (1957); good for |tau| < 0.8.
    """
    return _fisher(tau, np.sqrt(0.437 / (n - 4)) if n > 4 else np.nan, level)


def spearman_brown(half: float) -> float:
    """Reliability of the whole from the correlation of its halves: 2 r / (1 + r)."""
    return 2 * half / (1 + half)


def _fisher(r: float, se: float, level: float) -> tuple[float, float]:
    if not np.isfinite(se) or abs(r) >= 1:
        return float("nan"), float("nan")
    reach = scipy.stats.norm.isf((1 - level) / 2) * se
    return float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach))


def _standard(ranks: np.ndarray) -> np.ndarray:
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 0, centred / norm, np.nan)
