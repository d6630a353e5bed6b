"""The difference of two means, cell by cell, with limits by document: same documents, others, or some of each.

A mean over rows is a ratio of document sums, m = sum(s_d) / sum(n_d). Leaving document d out of whichever side has it
gives the jackknife of m_a - m_b: what the sides share by reading the same document is then taken off by itself, and
where they share none the two variances add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from moeaudit.errors import InputError

from ..contrast.checks import finite, fraction
from ..sizes.limits import limits_of_columns


@dataclass(frozen=True)
class Sums:
    """One side: an outcome summed by document and cell, and how many rows each sum has.

    Both sides of a difference have the same documents in the same order; one that a side has not read has no rows.
    """

    total: Float[np.ndarray, "documents cells"]
    count: Float[np.ndarray, "documents cells"]

    @property
    def mean(self) -> Float[np.ndarray, " cells"]:
        """Mean of each cell, NaN without rows."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.total.sum(axis=0) / self.count.sum(axis=0)

    @property
    def left(self) -> Float[np.ndarray, "documents cells"]:
        """Mean of each cell without each document; NaN where nothing is left."""
        with np.errstate(divide="ignore", invalid="ignore"):
            above = self.total.sum(axis=0) - self.total
            return above / (self.count.sum(axis=0) - self.count)


@dataclass(frozen=True)
class Difference:
    """`value` = mean of a - mean of b, with limits, each cell on its own (NaN where there are none).

    `left` holds the difference as it is without each document (see `difference_of_columns`), `there` which documents
    a cell has on either side, `scores` what each document adds to the difference if there were none: they add up to
    `value`. `same`: the cell holds the same sums on both sides, so its difference is 0.0 and nothing is estimated.
    """

    a: Sums
    b: Sums
    value: Float[np.ndarray, " cells"]
    low: Float[np.ndarray, " cells"]
    high: Float[np.ndarray, " cells"]
    left: Float[np.ndarray, "documents cells"]
    there: Bool[np.ndarray, "documents cells"]
    scores: Float[np.ndarray, "documents cells"]
    same: Bool[np.ndarray, " cells"]

    @property
    def paired(self) -> bool:
        """Whether both sides read the same documents."""
        read = [(side.count > 0).any(axis=1) for side in (self.a, self.b)]
        return bool((read[0] == read[1]).all())


def difference_of_columns(a: Sums, b: Sums, level: float | int = 0.95) -> Difference:
    """Difference of means of many cells at once, in the outcome's units.

    Limits are `adjusted_limits` (Student's t, longer for heavy tails and skewness) of the D documents that either side
    has. What leaving d out does to a side with D_a of them is stretched by sqrt((D_a - 1) / D_a * D / (D - 1)), which
    is 1 for the same documents and makes the jackknife's variance the sum of both sides' own for separate ones; its
    degrees of freedom (Satterthwaite's, from the kurtosis of the D values) follow.

    Raises InputError for sides of different shapes, values that are not finite, and a level that is none.
    """
    fraction(level, "level")
    if a.total.shape != b.total.shape:
        raise InputError(
            f"The sides have sums of {a.total.shape} and {b.total.shape} (documents, cells), and only the same cells "
            "over one list of documents can be taken from each other."
        )
    for side in (a, b):
        finite(side.total, "The document sums", "sums")
    there = (a.count > 0) | (b.count > 0)
    value = a.mean - b.mean
    d = there.sum(axis=0).astype(float)
    moved = np.zeros_like(a.total)
    for side, sign in ((a, 1.0), (b, -1.0)):
        n = (side.count > 0).sum(axis=0).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            stretch = np.sqrt((n - 1) / n * d / (d - 1))
            step = np.where(side.count > 0, (side.left - side.mean) * stretch, 0.0)
        moved += sign * step  # NaN where one document is all that a side has
    same = (a.total == b.total).all(axis=0) & (a.count == b.count).all(axis=0)
    value = np.where(same & (d > 0), 0.0, value)
    left = value + moved
    low, high = limits_of_columns(value, left, there, level)
    unknown = same | ~np.isfinite(low) | ~np.isfinite(high)
    low, high = (np.where(unknown, np.nan, limit) for limit in (low, high))
    return Difference(a, b, value, low, high, left, there, _scores(a, b), same)


def _scores(a: Sums, b: Sums) -> Float[np.ndarray, "documents cells"]:
    """What each document adds to m_a - m_b, measured from the common mean that there is if they are equal."""
    below = a.count.sum(axis=0), b.count.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        common = (a.total + b.total).sum(axis=0) / (below[0] + below[1])
        one = (a.total - common * a.count) / below[0]
        two = (b.total - common * b.count) / below[1]
    return np.nan_to_num(one - two)


def pooled(sums: Sums, group: np.ndarray, n: int) -> Sums:
    """Cells put together: `group` gives each cell's new place, from 0 to n - 1."""
    into = np.zeros((sums.total.shape[1], n))
    into[np.arange(len(group)), group] = 1.0
    return Sums(sums.total @ into, sums.count @ into)
