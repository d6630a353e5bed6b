"""Routing cells in which errors are rare: tested against drawn outcomes instead of turned signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from moeaudit.seeds import generator
from moeaudit.stats.families.maxt import step_down

from ..predictions.predictions import Predictions
from ..scores.rare import drawn_sums
from .cells import ALL, Cell, bin_of

_MOST_DRAWS = 2000
_LEAST_SPREAD = 0.5  # of the root of a Poisson count: no cell's is taken as smaller


@dataclass(frozen=True)
class Drawn:
    """What drawn outcomes say, per cell: two-sided p, step-down p over the cells, one-sided p.

    `p_lower` is small where residuals (correct - confidence) are too low: over-confidence.
    """

    p: Float[np.ndarray, " cells"]
    p_maxt: Float[np.ndarray, " cells"]
    p_lower: Float[np.ndarray, " cells"]
    p_upper: Float[np.ndarray, " cells"]


def rare_cells(
    predictions: Predictions, cells: list[Cell], rho: float, draws: int, seed: int
) -> Drawn:
    """Each cell's residual against calibrated outcomes that are tied within documents."""
    held = _members(predictions, cells)
    return _tested(predictions, cells, held, rho, draws, seed)


def rare_excess(
    predictions: Predictions,
    cells: list[Cell],
    bins: Sequence[float | int],
    rho: float,
    draws: int,
    seed: int,
) -> Drawn:
    """Each cell's residual beyond that of its bin, outcomes drawn at the rates of the bins."""
    w, c, y = predictions.weights, predictions.confidence, predictions.correct
    place = bin_of(c, bins)
    own = np.array(c)
    for b in np.unique(place):
        inside = place == b
        kinds = ((1 - c, ~y), (c, y))
        chance, seen = min(kinds, key=lambda kind: float(w[inside] @ kind[0][inside]))
        # Half an event more on both sides: no bin without errors is without chance of one.
        ratio = (w[inside] @ seen[inside] + 0.5) / (w[inside] @ chance[inside] + 0.5)
        rate = np.clip(chance[inside] * ratio, 0, 1)
        own[inside] = rate if chance is c else 1 - rate
    dense = _members(predictions, cells).toarray()
    for k, cell in enumerate(cells):
        inside = np.ones(len(w), bool) if cell.bin == ALL else place == list(bins).index(cell.low)
        dense[:, k] -= np.where(inside, w[cell.rows].sum() / w[inside].sum(), 0.0)
    at_rates = replace(predictions, confidence=own)
    return _tested(at_rates, cells, dense, rho, draws, seed)


def _members(predictions: Predictions, cells: list[Cell]) -> sparse.csr_array:
    """Rows x cells, 1 where a cell holds a row."""
    rows = np.concatenate([cell.rows for cell in cells])
    column = np.repeat(np.arange(len(cells)), [len(cell.rows) for cell in cells])
    shape = (len(predictions), len(cells))
    return sparse.csr_array((np.ones(len(rows)), (rows, column)), shape=shape)


def _tested(
    p: Predictions, cells: list[Cell], members: Any, rho: float, draws: int, seed: int
) -> Drawn:
    rng = generator(seed, "rare cells")
    part, held = _needed(p, members)
    drawn = drawn_sums(part, held, rho, min(draws, _MOST_DRAWS), rng)
    seen = np.asarray(members.T @ (p.weights * (p.confidence - p.correct)))
    sums = np.concatenate([seen[None], drawn])
    size = np.abs(sums).max(axis=0)
    sums = np.round(sums / np.where(size > 0, size, 1), 9) * size  # equal up to rounding is equal
    count = len(sums)
    upper, lower = np.empty(len(cells)), np.empty(len(cells))
    z = np.zeros((count, len(cells)))
    for k, cell in enumerate(cells):
        column = sums[:, k]
        # Residuals here are confidence - correct: the more, the more over-confident.
        lower[k] = (column >= column[0]).mean()
        upper[k] = (column <= column[0]).mean()
        z[:, k] = _roots(p, cell, column)
    both = np.minimum(1.0, 2 * np.minimum(lower, upper))
    return Drawn(both, step_down(z[0], list(z[1:].T)), lower, upper)


def _needed(p: Predictions, members: Any) -> tuple[Predictions, Any]:
    """The rows that any cell or its bin holds."""
    rows = np.flatnonzero(np.asarray(abs(members).sum(axis=1)).reshape(-1))
    return p.take(rows), members[rows]


def _roots(p: Predictions, cell: Cell, residual: Float[np.ndarray, " draws"]) -> np.ndarray:
    """Sizes that cells with few and with many events share: standardised roots of event counts."""
    w, c = p.weights[cell.rows], p.confidence[cell.rows]
    wrong, right = float(w @ (1 - c)), float(w @ c)
    chance = 1 - c if wrong <= right else c
    below = float(w @ chance)
    unit = float(w**2 @ chance) / below if below > 0 else 1.0  # what one event weighs
    events = below + (residual if wrong <= right else -residual)
    root = np.sqrt(np.maximum(events / unit, 0) + 3 / 8)
    spread = max(float(root[1:].std()), _LEAST_SPREAD)
    return np.abs(root - root[1:].mean()) / spread
