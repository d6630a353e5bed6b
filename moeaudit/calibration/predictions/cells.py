"""Where a prediction falls on the axis of confidence: bins of equal width or mass, fine cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from .predictions import Predictions

# Fine cells that stand in for single predictions when thousands of data sets are resampled: about
# as many by mass and by width, so that neither a crowd nor a sparse stretch is coarse.
FINE_MASS, FINE_WIDTH = 512, 256
MOST_BINS = 10_000


def mass_rank(
    confidence: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The share of weight below each confidence, half of its own ties included, in (0, 1).

    Equal confidences get equal ranks, so that nothing depends on the order of rows, and a row of
    weight 3 is the same as three rows.
    """
    _, place = np.unique(confidence, return_inverse=True)
    mass = np.bincount(place, weight)
    return ((np.cumsum(mass) - mass / 2) / mass.sum())[place]


def mass_bins(
    confidence: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], bins: int
) -> Int[np.ndarray, " n"]:
    """Bins 0..bins-1 that hold equal weight, as far as ties allow."""
    return _floor(mass_rank(confidence, weight) * bins, bins)


def width_bins(confidence: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """Bins [b/bins, (b+1)/bins); the last one is closed."""
    inner = np.arange(1, bins) / bins  # 3/10 is the double nearest 0.3; linspace's is not
    return np.searchsorted(inner, confidence, side="right").astype(np.int64)


def check_bins(bins: int) -> int:
    """A number of bins that makes sense."""
    if bins < 1:
        raise InputError(f"bins is {bins}; at least 1 is needed. 15 is the custom.")
    if bins > MOST_BINS:
        raise InputError(
            f"bins is {bins:,}; more than {MOST_BINS:,} leave next to nothing in each. 15 is the custom."
        )
    return bins


@dataclass(frozen=True)
class Cells:
    """A stratum's predictions summed in fine cells of confidence, in ascending order.

    No cell crosses the edge of a bin, so binned scores from cells are exact. Within a cell,
    which spans at most 1/256 of the axis and about 1/512 of the weight, confidences are taken as equal
    in resampling (never in a point estimate).
    """

    place: Int[np.ndarray, " n"]
    mass: Float[np.ndarray, " cells"]
    confidence: Float[np.ndarray, " cells"]
    correct: Float[np.ndarray, " cells"]
    centre: Float[np.ndarray, " cells"]
    width_starts: Int[np.ndarray, " width_bins"]
    mass_starts: Int[np.ndarray, " mass_bins"]

    def __len__(self) -> int:
        return len(self.mass)

    @property
    def residual(self) -> Float[np.ndarray, " cells"]:
        """Sum of w (confidence - correct)."""
        return self.confidence - self.correct


def cells_of(p: Predictions, bins: int) -> Cells:
    """Cut the axis for `p`. `mass`, `confidence` and `correct` are weighted sums."""
    w = p.weights
    rank = mass_rank(p.confidence, w)
    width, mass = width_bins(p.confidence, bins), _floor(rank * bins, bins)
    fine = _floor(rank * FINE_MASS, FINE_MASS) + width_bins(p.confidence, FINE_WIDTH)
    # All four rise with confidence, so their sum changes exactly where one of them does.
    _, first, place = np.unique(width + mass + fine, return_index=True, return_inverse=True)
    total, confidence, correct = (
        np.bincount(place, x) for x in (w, w * p.confidence, w * p.correct)
    )
    plain = np.bincount(place, p.confidence) / np.bincount(place)
    centre = np.where(total > 0, confidence / np.where(total > 0, total, 1), plain)
    starts = _starts(width[first]), _starts(mass[first])
    return Cells(place, total, confidence, correct, centre, *starts)


def _starts(bin_of_cell: np.ndarray) -> np.ndarray:
    """The first cell of each bin that has one."""
    return np.flatnonzero(np.r_[True, np.diff(bin_of_cell) > 0])


def _floor(position: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum(position.astype(np.int64), bins - 1)
