"""Expected calibration error over bins: equal width or equal mass; l1, l2, largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from moeaudit.errors import one_of

from ...predictions.cells import Cells, check_bins, mass_bins, width_bins
from ...predictions.predictions import Predictions

Binning = Literal["width", "mass"]
Order = Literal["l1", "l2", "max"]


@dataclass(frozen=True)
class BinnedNorm:
    """ECE as a norm of the bins' mean residuals d_b with shares of weight s_b.

    l1: sum s_b |d_b|;  l2: sqrt(sum s_b d_b^2);  max: max |d_b| (Naeini et al. 2015; Guo et al.
    2017; Kumar et al. 2019).
    """

    starts: Int[np.ndarray, " bins"]
    order: Order

    def features(
        self, mass: Float[np.ndarray, "*draws cells"], residual: Float[np.ndarray, "*draws cells"]
    ) -> Float[np.ndarray, "*draws bins"]:
        r = np.add.reduceat(residual, self.starts, axis=-1).astype(np.float64)
        if self.order == "l1":
            return r
        s = np.add.reduceat(mass, self.starts, axis=-1).astype(np.float64)
        s = np.where(s > 0, s, np.inf)  # a bin without weight has no residual
        return r / (np.sqrt(s) if self.order == "l2" else s)

    def value(self, features: Float[np.ndarray, "*draws bins"]) -> Float[np.ndarray, "*draws"]:
        size = np.abs(features)
        if self.order == "l1":
            return np.asarray(size.sum(axis=-1))
        if self.order == "l2":
            return np.asarray(np.sqrt((size**2).sum(axis=-1)))
        return np.asarray(size.max(axis=-1))

    def reaches(
        self, features: Float[np.ndarray, "draws bins"], score: float
    ) -> Bool[np.ndarray, " draws"]:
        return self.value(features) >= score


def norms(cells: Cells) -> dict[str, BinnedNorm]:
    """The six binned scores by name."""
    orders: tuple[Order, ...] = ("l1", "l2", "max")
    starts = {"width": cells.width_starts, "mass": cells.mass_starts}
    return {f"ece_{b}_{o}": BinnedNorm(s, o) for b, s in starts.items() for o in orders}


def bin_of(p: Predictions, bins: int, binning: Binning) -> Int[np.ndarray, " n"]:
    """The bin of each prediction."""
    check_bins(bins)
    if one_of(binning, ("width", "mass"), "binning") == "width":
        return width_bins(p.confidence, bins)
    return mass_bins(p.confidence, p.weights, bins)


def ece(p: Predictions, bins: int = 15, binning: Binning = "width", order: Order = "l1") -> float:
    """The plug-in expected calibration error of all predictions. It is biased upward by noise."""
    one_of(order, ("l1", "l2", "max"), "order")
    place = bin_of(p, bins, binning)
    w = p.weights / p.weights.sum()
    mass = np.bincount(place, w, minlength=bins)
    residual = np.bincount(place, w * (p.confidence - p.correct), minlength=bins)
    norm = BinnedNorm(np.arange(bins), order)
    return float(norm.value(norm.features(mass, residual)))
