"""Limits from leaving documents out: Student's, and Student's adjusted for tails and skewness.

With heavy tails a few documents carry most of an effect size, and the spread between them is then
known less well than so many documents promise: Student's t on D - 1 degrees of freedom is too
short. Two known remedies, put together here and measured in docs/methods/validity.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float


def jackknife_se(left: Float[np.ndarray, " documents"]) -> float:
    """sqrt((D - 1) / D * sum of squared deviations) of the D leave-one-out values."""
    d = len(left)
    return float(np.sqrt((d - 1) / d * ((left - left.mean()) ** 2).sum()))


def degrees_of_freedom(left: Float[np.ndarray, " documents"]) -> float:
    """Degrees of freedom that match how well the jackknife's variance is known.

    Satterthwaite (1946): nu = 2 / CV^2 of the variance, whose squared coefficient of variation over
    D values of kurtosis k is (k - (D - 3) / (D - 1)) / D; k by Fisher's unbiased cumulants. D - 1 for
    normal documents (and never more), towards 2 where one document carries everything.
    """
    d, centred = len(left), left - left.mean()
    second = (centred**2).mean()
    if d < 4 or second == 0:
        return float(d - 1)
    excess = (centred**4).mean() / second**2 - 3
    k = 3 + ((d + 1) * excess + 6) * (d - 1) / ((d - 2) * (d - 3))
    variation = max(k - (d - 3) / (d - 1), 2 * d / (d - 1))
    return float(np.clip(2 * d / variation, 1.0, d - 1))


def student_limits(
    estimate: float, se: float, dof: float | int, level: float | int
) -> tuple[float, float]:
    """estimate -+ t se."""
    reach = float(scipy.stats.t.isf((1 - level) / 2, dof)) * se
    return estimate - reach, estimate + reach


def adjusted_limits(
    estimate: float, left: Float[np.ndarray, " documents"], level: float | int
) -> tuple[float, float]:
    """Limits for heavy tails, longer on the side the documents are skewed to.

    Either side reaches se times the larger of the t quantile at `degrees_of_freedom`, and
    q + s g (1 + 2 q^2) / (6 sqrt(D)): q the t quantile at D - 1, g the skewness of what documents add,
    s = 1 above and -1 below (the first term of the Cornish-Fisher expansion of Student's t, Johnson
    1978). The other side is not shortened in return, since few documents do not know g that well.
    """
    return limits_of(estimate, Spread.of(left), level)


@dataclass(frozen=True)
class Spread:
    """What limits need to know of the documents, and a finished table holds: the jackknife's `se`,
    `degrees_of_freedom`, `skewness_of`, and how many documents there are."""

    se: float
    dof: float
    skewness: float
    documents: int

    @classmethod
    def of(cls, left: Float[np.ndarray, " documents"]) -> Spread:
        return cls(jackknife_se(left), degrees_of_freedom(left), skewness_of(left), len(left))


def limits_of(estimate: float, spread: Spread, level: float | int) -> tuple[float, float]:
    """`adjusted_limits` from a `Spread`."""
    tail = (1 - level) / 2
    # what scipy.stats.t.isf comes to, to the last bit, in a twentieth of its time: a search asks thousands of times
    heavy, q = (-float(scipy.special.stdtrit(d, tail)) for d in (spread.dof, spread.documents - 1))
    lean = spread.skewness * (1 + 2 * q**2) / (6 * math.sqrt(spread.documents))
    return estimate - max(heavy, q - lean) * spread.se, estimate + max(heavy, q + lean) * spread.se


def adjusted_tost(
    estimate: float, left: Float[np.ndarray, " documents"], sesoi: float | int
) -> float:
    """p of equivalence within (-sesoi, sesoi): half the smallest 1 - level whose `adjusted_limits`
    lie inside the bounds (Schuirmann's two one-sided tests, with those limits)."""
    return tost_p(estimate, Spread.of(left), sesoi)


def tost_p(estimate: float, spread: Spread, sesoi: float | int) -> float:
    """`adjusted_tost` from a `Spread`."""
    c, se = spread.skewness / (6 * math.sqrt(spread.documents)), spread.se
    p = []
    for t, lean in (((estimate + sesoi) / se, -c), ((sesoi - estimate) / se, c)):
        p.append(float(scipy.special.stdtr(spread.dof, -t)))
        if lean > 0:  # t = q + lean (1 + 2 q^2), solved for q
            q = (math.sqrt(max(1 + 8 * lean * (t - lean), 0.0)) - 1) / (4 * lean)
            p.append(float(scipy.special.stdtr(spread.documents - 1, -q)))
    return max(p)


def skewness_of(left: np.ndarray) -> float:
    """Skewness of what each document adds."""
    influence = left.mean() - left
    second = (influence**2).mean()
    return float((influence**3).mean() / second**1.5) if second > 0 else 0.0


def limits_of_columns(
    estimate: Float[np.ndarray, " cells"],
    left: Float[np.ndarray, "documents cells"],
    there: Bool[np.ndarray, "documents cells"],
    level: float | int,
) -> tuple[np.ndarray, np.ndarray]:
    """`adjusted_limits` of many cells at once; `there` says which documents each cell has.

    NaN for a cell with fewer than two documents.
    """
    d = there.sum(axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(there, left, 0.0)
        centred = np.where(there, kept - kept.sum(axis=0) / d, 0.0)
        second, third, fourth = ((centred**p).sum(axis=0) / d for p in (2, 3, 4))
        se = np.sqrt((d - 1) * second)
        flat = second == 0
        excess = np.where(flat, 0.0, fourth / np.where(flat, 1.0, second) ** 2 - 3)
        kurtosis = 3 + ((d + 1) * excess + 6) * (d - 1) / ((d - 2) * (d - 3))
        variation = np.maximum(kurtosis - (d - 3) / (d - 1), 2 * d / (d - 1))
        dof = np.where((d < 4) | flat, d - 1, np.clip(2 * d / variation, 1.0, d - 1))
        tail = (1 - level) / 2
        heavy, q = scipy.stats.t.isf(tail, dof), scipy.stats.t.isf(tail, d - 1)
        skew = np.where(flat, 0.0, -third / np.where(flat, 1.0, second) ** 1.5)
        lean = skew * (1 + 2 * q**2) / (6 * np.sqrt(d))
        low = estimate - np.maximum(heavy, q - lean) * se
        high = estimate + np.maximum(heavy, q + lean) * se
    few = d < 2
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def means_of_columns(
    total: Float[np.ndarray, "documents cells"],
    count: Float[np.ndarray, "documents cells"],
    level: float | int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of each cell with `adjusted_limits` by document, from document sums: (mean, low, high)."""
    above, below, there = total.sum(axis=0), count.sum(axis=0), count > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, left = above / below, (above - total) / (below - count)
    low, high = limits_of_columns(mean, left, there, level)
    return mean, low, high
