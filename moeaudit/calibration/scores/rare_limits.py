"""Limits where errors are rare: they hold with no error seen, where resampling has nothing to vary."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import beta

from ..predictions.predictions import effective


def rate_limits(
    event: np.ndarray,
    weight: Float[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    level: float,
) -> tuple[float, float]:
    """Clopper & Pearson's (1934) limits of a weighted share, on the effective number of rows.

    That number is Kish's, over the design effect that the documents show (Korn & Graubard 1998); with
    fewer than two events none can be seen, and rows count as independent.
    """
    rate = float(weight @ event / weight.sum())
    n = effective(weight)
    sums = np.bincount(document, weight * (event - rate))
    documents = np.unique(document[weight > 0]).size
    by_row = rate * (1 - rate) / n
    if documents > 1 and by_row > 0 and min(np.count_nonzero(event), np.count_nonzero(~event)) > 1:
        by_document = (sums**2).sum() / weight.sum() ** 2 * documents / (documents - 1)
        n /= max(1.0, float(by_document / by_row))
    x, tail = n * rate, (1 - level) / 2
    low = float(beta.ppf(tail, x, n - x + 1)) if x > 0 else 0.0
    high = float(beta.ppf(1 - tail, x + 1, n - x)) if x < n else 1.0
    return low, high


def gap_limits(
    confidence: tuple[float, float, float],
    accuracy: tuple[float, float, float],
) -> tuple[float, float]:
    """Limits of confidence - accuracy from (value, low, high) of each (Zou & Donner 2008).

    Their errors count as independent; a document of less confidence has more errors, so that the limits
    are, if anything, wide.
    """
    (c, c_low, c_high), (a, a_low, a_high) = confidence, accuracy
    low = c - a - np.hypot(c - c_low, a_high - a)
    high = c - a + np.hypot(c_high - c, a - a_low)
    return float(low), float(high)
