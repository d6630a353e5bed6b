"""Limits from leaving documents out: Student's, and Student's adjusted for tails and skewness.

With heavy tails a few documents carry most of an effect size, and the spread between them is then
known less well than so many documents promise: Student's t on D - 1 degrees of freedom is too
short. Two known remedies, put together here and measured in docs/methods/validity.md.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats


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
    reach = float(stats.t.isf((1 - level) / 2, dof)) * se
    return estimate - reach, estimate + reach


def adjusted_limits(
    estimate: float, left: Float[np.ndarray, " documents"], level: float | int
) -> tuple[float, float]:
    """Student's limits with `degrees_of_freedom`, longer on the side the documents are skewed to.

    The skewed side is Hall's (1992) cube-root transform of the t quantile q,
    3 / g ((1 + g (q / sqrt(D) - g / (6 D)))^(1/3) - 1), g the skewness of the leave-one-out values.
    The other side is not shortened in return: from few documents g is not known well enough for that.
    """
    d, se, g = len(left), jackknife_se(left), _skewness(left)
    q = float(stats.t.isf((1 - level) / 2, degrees_of_freedom(left)))
    below, above = (max(q, _untransformed(q, side * g, d)) for side in (1, -1))
    return estimate - below * se, estimate + above * se


def adjusted_tost(
    estimate: float, left: Float[np.ndarray, " documents"], sesoi: float | int
) -> float:
    """p of equivalence within (-sesoi, sesoi): half the smallest 1 - level whose `adjusted_limits`
    lie inside the bounds (Schuirmann's two one-sided tests, with those limits)."""
    d, se, g, dof = len(left), jackknife_se(left), _skewness(left), degrees_of_freedom(left)
    p = []
    for t, skew in (((estimate + sesoi) / se, g), ((sesoi - estimate) / se, -g)):
        p.append(float(stats.t.sf(min(t, _transformed(t, skew, d)), dof)))
    return max(p)


def _skewness(left: np.ndarray) -> float:
    """Skewness of what each document adds."""
    influence = left.mean() - left
    second = (influence**2).mean()
    return float((influence**3).mean() / second**1.5) if second > 0 else 0.0


def _transformed(t: float, g: float, d: int) -> float:
    """Hall's transform of a t of d values of skewness g."""
    x = t / np.sqrt(d)
    return float(np.sqrt(d) * (x + g * x**2 / 3 + g**2 * x**3 / 27 + g / (6 * d)))


def _untransformed(q: float, g: float, d: int) -> float:
    """The t that Hall's transform takes to q."""
    if abs(g) < 1e-6:
        return q
    root = np.cbrt(1 + g * (q / np.sqrt(d) - g / (6 * d)))
    return float(np.sqrt(d) * 3 / g * (root - 1))
