"""Brier score and NLL, split into what recalibration would mend and what it would not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from moeaudit.stats.least import documents_for_folds

from ...predictions.cells import Cells
from ...predictions.predictions import Predictions
from ..resample import Resamples, combine

FOLDS = 5
LEAST_DOCUMENTS = documents_for_folds(FOLDS)
_BLOCKS = 128  # the recalibration map is a step function of at most so many steps


@dataclass(frozen=True)
class Refinement:
    """The refinement part of Brier score and NLL by cross-fitted isotonic recalibration.

    Predictions of a fifth of the documents are recalibrated by the isotonic fit to the other four
    fifths; the loss that is left is refinement, and loss - refinement is calibration (Brocker 2009
    for the split; Dimitriadis, Gneiting & Jordan 2021 for isotonic fits). Fitting apart keeps the calibration
    part honest: about 0, or slightly below, for calibrated predictions. Each step of the fit
    is drawn to the overall accuracy `base` with the weight `one` of an average prediction, so that no
    probability is 0 or 1.
    """

    mass: np.ndarray | sparse.csr_array  # units x blocks; fold f holds units f, f + 5, ...
    correct: np.ndarray | sparse.csr_array
    base: float
    one: float

    def losses(
        self, counts: Float[np.ndarray, "draws units"]
    ) -> dict[str, Float[np.ndarray, " draws"]]:
        """The refinement of every resampled data set, per unit of weight."""
        mass, right = (self._by_fold(counts, sums) for sums in (self.mass, self.correct))
        brier, nll = np.zeros(len(counts)), np.zeros(len(counts))
        for fold in range(FOLDS):
            held, hit = mass[fold], right[fold]
            q = self._fit(mass.sum(axis=0) - held, right.sum(axis=0) - hit)
            brier += (hit * (1 - q) ** 2 + (held - hit) * q**2).sum(axis=1)
            nll -= (xlogy(hit, q) + xlogy(held - hit, 1 - q)).sum(axis=1)
        total = mass.sum(axis=(0, 2))
        total = np.where(total > 0, total, np.nan)
        return {"brier": brier / total, "nll": nll / total}

    def _by_fold(
        self, counts: Float[np.ndarray, "draws units"], sums: np.ndarray | sparse.csr_array
    ) -> Float[np.ndarray, "folds draws blocks"]:
        parts = [combine(counts[:, f::FOLDS], sums[f::FOLDS]) for f in range(FOLDS)]
        return np.stack(parts).astype(np.float64)

    def _fit(
        self, mass: Float[np.ndarray, "draws blocks"], right: Float[np.ndarray, "draws blocks"]
    ) -> Float[np.ndarray, "draws blocks"]:
        """Isotonic accuracy of every block, the steps drawn to the base."""
        out = np.full_like(mass, self.base)
        columns = np.arange(mass.shape[1])
        for row, w, k in zip(out, mass, right):
            kept = np.flatnonzero(w > 0)
            if not len(kept):
                continue
            fit = isotonic_regression(k[kept] / w[kept], weights=w[kept])
            starts = fit.blocks[:-1]
            size = np.add.reduceat(w[kept], starts)
            drawn = (fit.x[starts] * size + self.base * self.one) / (size + self.one)
            step = np.searchsorted(kept[starts], columns, side="right") - 1
            row[:] = drawn[np.maximum(step, 0)]
        return out


def refinement_of(
    p: Predictions, unit: Int[np.ndarray, " n"], cells: Cells, resamples: Resamples
) -> Refinement:
    """Sums by unit and block; a block joins neighbouring fine cells up to 1/128 of the weight."""
    share = (np.cumsum(cells.mass) - cells.mass / 2) / cells.mass.sum()
    of_cell = np.unique((share * _BLOCKS).astype(np.int64), return_inverse=True)[1]
    block, size = of_cell[cells.place], int(of_cell.max()) + 1
    # Copies of a row must not count as more rows: a weight of 3 is the same as three copies.
    alone = len(np.unique(p.documents * len(cells) + cells.place))
    return Refinement(
        resamples.sums(unit, block, p.weights, size),
        resamples.sums(unit, block, p.weights * p.correct, size),
        float(np.average(p.correct, weights=p.weights)),
        float(p.weights.sum() / alone),
    )
