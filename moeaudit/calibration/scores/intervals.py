"""Limits for a score, from the document bootstrap.

A calibration score is a norm of the residuals E[confidence - correct | confidence]. Noise alone
makes it positive, and resampling adds the noise a second time: percentile limits of an ECE start above
the truth, and never reach 0 for a calibrated model. So limits are found by inverting a test. The
observed residuals z have noise e, known from the bootstrap. A score of t is kept if the observed value v
is no surprise for residuals that have the size t in the direction observed:

    P(f(a z + e) >= v) and P(f(a z + e) <= v), with f(a z) = t,

both above their shares of 1 - level. The lower share grows from 0 to half as t leaves the noise
behind; at 0, where a score can only be too large, all of 1 - level is upper tail (compare Feldman & Cousins
1998). Limits may lie below the score itself, which holds its upward bias; they speak of the truth.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

_STEPS = 13
_MOST = 64.0


@runtime_checkable
class Norm(Protocol):
    """A score as a norm of features that are linear in the residuals."""

    def features(
        self, mass: Float[np.ndarray, "*draws cells"], residual: Float[np.ndarray, "*draws cells"]
    ) -> Float[np.ndarray, "*draws features"]:
        """From shares of weight and of residual in each cell."""
        ...

    def value(self, features: Float[np.ndarray, "*draws features"]) -> Float[np.ndarray, "*draws"]:
        """The score."""
        ...

    def reaches(
        self, features: Float[np.ndarray, "draws features"], score: float
    ) -> Bool[np.ndarray, " draws"]:
        """Whether the score is at least `score`, which may be cheaper to know than the score."""
        ...


# Residuals of shares are added up in float32, so equal scores differ in their last bits; and a smECE is
# found to 2^-19, so that one below twice that is not told from 0.
_LAST_BITS, _NO_SHARE, _LEAST_SMECE = 4 * float(np.finfo(np.float32).eps), 1e-7, 2.0**-18


def nearly(score: float) -> float:
    """The least that counts as equal to a score, given how scores are added up."""
    return score * (1 - _LAST_BITS) - (_NO_SHARE if score <= _NO_SHARE else 0.0)


def reached(
    norm: Norm, features: Float[np.ndarray, "draws features"], score: float
) -> Bool[np.ndarray, " draws"]:
    """`norm.reaches`, with scores that differ by rounding taken as equal."""
    if score <= _LEAST_SMECE:
        return norm.value(features) >= nearly(score)
    return norm.reaches(features, nearly(score))


def norm_limits(
    norm: Norm,
    observed: Float[np.ndarray, " features"],
    noise: Float[np.ndarray, "draws features"],
    level: float,
) -> tuple[float, float]:
    """The limits of a norm score; see the module's text. Never below 0."""
    alpha = 1 - level
    score = float(norm.value(observed))
    if score <= 0:
        return 0.0, 0.0

    def tails(a: float) -> tuple[float, float, float]:
        """Upper tail, lower tail, and the lower tail's share of alpha at scale `a`."""
        above = int(np.count_nonzero(norm.reaches(a * observed + noise, score)))
        clear = 1 - float(np.mean(norm.reaches(noise, float(norm.value(a * observed)))))
        # The observed data set counts as one of the draws, so that few draws are not too bold.
        upper, lower = (above + 1) / (len(noise) + 1), (len(noise) - above + 1) / (len(noise) + 1)
        return upper, lower, alpha / 2 * (clear if a > 0 else 0.0)

    def low_enough(a: float) -> bool:
        upper, _, share = tails(a)
        return upper + share > alpha

    def high_enough(a: float) -> bool:
        _, lower, share = tails(a)
        return lower <= share

    low = 0.0 if low_enough(0.0) else _crossing(low_enough, 0.0, _bracket(low_enough))
    high = 0.0 if high_enough(0.0) else _crossing(high_enough, 0.0, _bracket(high_enough))
    low_end, high_end = (
        float(norm.value(a * observed)) if a > 0 else 0.0 for a in (low, max(low, high))
    )
    return low_end, high_end


def _bracket(passed) -> float:
    a = 1.0
    while a < _MOST and not passed(a):
        a *= 2
    return a


def _crossing(passed, low: float, high: float) -> float:
    """Where a monotone condition turns true."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if passed(middle) else (middle, high)
    return (low + high) / 2


def mean_limits(
    value: float, replicates: Float[np.ndarray, " draws"], level: float, wider: float
) -> tuple[float, float]:
    """Percentile limits of a smooth statistic, widened about its value for few documents."""
    tail = (1 - level) / 2
    # At the k-th of B ordered draws lies k / (B + 1) of the law: few draws do not narrow the limits.
    low, high = np.quantile(replicates, [tail, 1 - tail], method="weibull")
    return value + wider * float(low - value), value + wider * float(high - value)
