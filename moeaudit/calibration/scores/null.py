"""A score's own null: the same confidences, outcomes drawn anew from them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..predictions.cells import Cells
from ..predictions.predictions import Predictions

# Up to this many single outcomes are drawn one by one; beyond, cell by cell.
_ONE_BY_ONE = 10_000_000


def null_residuals(
    p: Predictions, cells: Cells, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws cells"]:
    """Sums of w (confidence - y) by cell for y ~ Bernoulli(confidence), independently.

    One by one for small strata. For large ones each cell's sum is a centred binomial count, scaled to the
    exact variance sum w^2 c (1 - c): the outcomes of a cell share nearly one confidence, and the
    number of them makes the difference vanish (`tests/calibration/test_limits_and_nulls.py`).
    """
    if len(p) * draws <= _ONE_BY_ONE:
        return _by_row(p, cells, draws, rng)
    w, c = p.weights, p.confidence
    size = np.bincount(cells.place)
    chance = np.clip(np.bincount(cells.place, c) / size, 0, 1)
    variance = np.bincount(cells.place, w**2 * c * (1 - c))
    # Few draws of unequal weight are not as many as there are rows: keep Kish's number of them.
    squares = np.bincount(cells.place, w**2)
    kish = np.where(squares > 0, cells.mass**2 / np.where(squares > 0, squares, 1), 1)
    trials = np.maximum(np.rint(kish), 1).astype(np.int64)
    spread = trials * chance * (1 - chance)
    scale = np.sqrt(np.where(spread > 0, variance / np.where(spread > 0, spread, 1), 0))
    drawn = rng.binomial(trials, chance, size=(draws, len(size)))
    return ((trials * chance - drawn) * scale).astype(np.float32)


def _by_row(
    p: Predictions, cells: Cells, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws cells"]:
    order = np.argsort(cells.place, kind="stable")
    w, c = p.weights[order], p.confidence[order]
    starts = np.flatnonzero(np.r_[True, np.diff(cells.place[order]) > 0])
    out = np.empty((draws, len(cells)), np.float32)
    step = max(1, 2_000_000 // len(p))
    for at in range(0, draws, step):
        y = rng.random((min(step, draws - at), len(p))) < c
        out[at : at + len(y)] = np.add.reduceat(w * (c - y), starts, axis=1)
    return out
