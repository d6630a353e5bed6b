"""Documents counted alike: the estimate that long ones do not dominate, and whether it matters.

An effect size by token lets a document count by its tokens. If effects go with length, that is another
number than the one of a document drawn at random, and the longest few documents decide it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy

from .limits import adjusted_limits
from .moments import COUNT, Moments, d_z, jackknife, weighted


def counted_alike(m: Moments) -> Moments:
    """The sums with every document scaled to the mean number of tokens, so that all count the same."""
    count = m.sums[:, COUNT]
    mean = m.n / max(m.n_documents, 1)
    scale = np.divide(mean, count, out=np.zeros_like(count), where=count > 0)
    return replace(m, sums=m.sums * scale[:, None])


def equal_d_z(m: Moments, level: float | int) -> tuple[float, float, float]:
    """d_z with every document counted alike, and its `adjusted_limits`; NaN where not estimable."""
    alike = counted_alike(m)
    if m.n_documents < 2 or m.n < 2:
        return float("nan"), float("nan"), float("nan")
    estimate, left = float(d_z(weighted(alike))[0]), jackknife(alike, "d_z")
    if not np.isfinite([estimate, *left]).all() or np.ptp(left) == 0:
        return estimate, float("nan"), float("nan")
    return estimate, *adjusted_limits(estimate, left, level)


def p_lengths(sums: np.ndarray, tokens: np.ndarray) -> float:
    """p that documents' mean effects go with the logarithm of their lengths.

    The mean by token less the mean by document is the covariance of length and mean effect over the mean
    length, so this asks whether the two differ. Least squares weighted by length (short documents'
    means are noisy), HC3 errors (MacKinnon & White 1985), Student's t on documents - 2. 1 where lengths
    hardly vary (Kish's number above 95 % of the documents) and for fewer than 4 documents: nothing to show.
    """
    use = tokens > 0
    n, total = tokens[use].astype(float), sums[use]
    d = len(n)
    if d < 4 or n.sum() ** 2 / (n**2).sum() > 0.95 * d:
        return 1.0
    x, y = np.log(n), total / n
    x = x - (n * x).sum() / n.sum()
    y = y - total.sum() / n.sum()
    below = (n * x**2).sum()
    slope = (n * x * y).sum() / below
    leverage = np.minimum(n * (1 / n.sum() + x**2 / below), 0.99)
    scores = n * x * (y - slope * x) / (1 - leverage)
    se = np.sqrt((scores**2).sum()) / below
    return float(2 * scipy.stats.t.sf(abs(slope) / se, d - 2)) if se > 0 else 1.0
