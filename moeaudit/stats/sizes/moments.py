"""Paired effects reduced to sums per document, and every effect size that is a function of them.

The document is the sampling unit, so a bootstrap over documents never needs the tokens again: a
replicate is a vector of document weights, and its statistics are functions of weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

# The columns of `Moments.sums`; values are centred at the cell's own means, which keeps the
# variances exact where a mean is large beside its spread.
COUNT, HIGH, LOW, HIGH2, LOW2, CROSS, SIGN = range(7)


@dataclass(frozen=True)
class Moments:
    """Sums over the tokens of each document (rows) of a cell.

    `sums` columns: tokens, high, low, high squared, low squared, high times low (all centred),
    and the sign of high - low. `centre` is the pair of means taken off.
    """

    sums: Float[np.ndarray, "documents 7"]
    centre: tuple[float, float]

    @property
    def n(self) -> int:
        return int(self.sums[:, COUNT].sum())

    @property
    def present(self) -> np.ndarray:
        return self.sums[:, COUNT] > 0

    @property
    def n_documents(self) -> int:
        return int(self.present.sum())

    @property
    def difference_sums(self) -> Float[np.ndarray, " documents"]:
        """Sum of (high - low) over each document's tokens."""
        shift = self.centre[0] - self.centre[1]
        return self.sums[:, HIGH] - self.sums[:, LOW] + shift * self.sums[:, COUNT]


def moments(
    document: Int[np.ndarray, " tokens"],
    high: Float[np.ndarray, " tokens"],
    low: Float[np.ndarray, " tokens"],
    n_documents: int | None = None,
) -> Moments:
    """Reduce the pairs of a cell to document sums. `document` holds codes 0..n_documents-1."""
    size = int(document.max(initial=-1)) + 1 if n_documents is None else n_documents
    centre = (float(high.mean()), float(low.mean())) if len(high) else (0.0, 0.0)
    h, l = high - centre[0], low - centre[1]
    columns = (None, h, l, h * h, l * l, h * l, np.sign(high - low))
    sums = np.stack([np.bincount(document, c, minlength=size) for c in columns], axis=1)
    return Moments(sums.astype(np.float64), centre)


@dataclass(frozen=True)
class Weighted:
    """Means, variances (ddof = 1) and covariance for one or many sets of document weights."""

    n: np.ndarray
    difference: np.ndarray
    var_high: np.ndarray
    var_low: np.ndarray
    covariance: np.ndarray
    sign: np.ndarray

    @property
    def var_difference(self) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a single token has no variance: NaN
            return np.maximum(self.var_high + self.var_low - 2 * self.covariance, 0.0)


def weighted(m: Moments, weights: Float[np.ndarray, "sets documents"] | None = None) -> Weighted:
    """Statistics under document weights (one row a set); all weights one if None."""
    return from_totals(m, m.sums.sum(axis=0)[None] if weights is None else weights @ m.sums)


def leave_one_out(m: Moments) -> Weighted:
    """Statistics with each document that holds tokens left out, in the order of documents."""
    return from_totals(m, m.sums.sum(axis=0) - m.sums[m.present])


def from_totals(m: Moments, total: Float[np.ndarray, "sets 7"]) -> Weighted:
    """Statistics from sums over documents."""
    n = total[:, COUNT]
    with np.errstate(divide="ignore", invalid="ignore"):
        h, l = total[:, HIGH] / n, total[:, LOW] / n
        dof = n - 1
        return Weighted(
            n=n,
            difference=h - l + (m.centre[0] - m.centre[1]),
            var_high=np.maximum(total[:, HIGH2] - n * h * h, 0) / dof,
            var_low=np.maximum(total[:, LOW2] - n * l * l, 0) / dof,
            covariance=(total[:, CROSS] - n * h * l) / dof,
            sign=total[:, SIGN] / n,
        )


def hedges_factor(dof: np.ndarray | float | int) -> np.ndarray:
    """Hedges' exact small-sample factor J(m) = G(m/2) / (sqrt(m/2) G((m-1)/2)), G the gamma function.

    Hedges (1981), equation 6e. J tends to 1 - 3 / (4m - 1).
    """
    half = np.asarray(dof, dtype=float) / 2
    return np.asarray(
        np.exp(scipy.special.gammaln(half) - scipy.special.gammaln(half - 0.5)) / np.sqrt(half)
    )


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, np.nan)


def mean_difference(w: Weighted) -> np.ndarray:
    return w.difference


def d_z(w: Weighted) -> np.ndarray:
    return _ratio(w.difference, np.sqrt(w.var_difference))


def d_av(w: Weighted) -> np.ndarray:
    return _ratio(w.difference, (np.sqrt(w.var_high) + np.sqrt(w.var_low)) / 2)


def d_pooled(w: Weighted) -> np.ndarray:
    return _ratio(w.difference, np.sqrt((w.var_high + w.var_low) / 2))


def g_z(w: Weighted) -> np.ndarray:
    return d_z(w) * hedges_factor(w.n - 1)


def g_av(w: Weighted) -> np.ndarray:
    return d_av(w) * hedges_factor(w.n - 1)


def p_superior(w: Weighted) -> np.ndarray:
    return (w.sign + 1) / 2


MOMENT_STATISTICS: dict[str, Callable[[Weighted], np.ndarray]] = {
    "mean_difference": mean_difference,
    "d_z": d_z,
    "d_av": d_av,
    "d_pooled": d_pooled,
    "g_z": g_z,
    "g_av": g_av,
    "p_superior": p_superior,
}


def jackknife(m: Moments, statistic: str) -> Float[np.ndarray, " documents"]:
    """A statistic of `MOMENT_STATISTICS` with each document that holds tokens left out."""
    return MOMENT_STATISTICS[statistic](leave_one_out(m))


def influence(m: Moments, statistic: str) -> Float[np.ndarray, " documents"]:
    """Derivative of a statistic with respect to each document's weight, at weight one.

    The sum over documents is zero, and sqrt(D / (D - 1) * sum of squares) is the cluster-robust
    (delta-method, "infinitesimal jackknife") standard error of the statistic.
    """
    w = weighted(m)
    n, counts = w.n[0], m.sums[:, COUNT]
    diff, var_h, var_l, cov = (x[0] for x in (w.difference, w.var_high, w.var_low, w.covariance))
    # Centred at the cell's means, so the first moments are the sums themselves.
    u_mean = (m.sums[:, HIGH] - m.sums[:, LOW]) / n
    biased = (n - 1) / n  # so that each u sums to zero
    u_h = (m.sums[:, HIGH2] - counts * var_h * biased) / n  # of var(high)
    u_l = (m.sums[:, LOW2] - counts * var_l * biased) / n
    u_c = (m.sums[:, CROSS] - counts * cov * biased) / n
    if statistic == "mean_difference":
        return u_mean
    if statistic == "p_superior":
        return (m.sums[:, SIGN] - counts * w.sign[0]) / (2 * n)
    with np.errstate(divide="ignore", invalid="ignore"):
        if statistic in ("d_z", "g_z"):
            var = max(var_h + var_l - 2 * cov, 0.0)
            scale, u_scale = np.sqrt(var), (u_h + u_l - 2 * u_c) / (2 * np.sqrt(var))
        elif statistic in ("d_av", "g_av"):
            scale = (np.sqrt(var_h) + np.sqrt(var_l)) / 2
            u_scale = (u_h / np.sqrt(var_h) + u_l / np.sqrt(var_l)) / 4
        else:
            scale = np.sqrt((var_h + var_l) / 2)
            u_scale = (u_h + u_l) / (4 * scale)
        factor = float(hedges_factor(n - 1)) if statistic.startswith("g_") else 1.0
        return factor * (u_mean - diff / scale * u_scale) / scale
