"""The slope of a regression with the metric's values on other experts.

A slope is sums over rows of the metric times something that does not hold the metric; a metric is one
number an expert, so those sums are by expert and pair of experts, and a shuffle costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..contrast.slots import Slots
from .experts import Null, Shuffles, none

MODELS = ("cluster", "within_token")


def slope_null(
    every: Sequence[Slots],
    values: Sequence[Float[np.ndarray, "_"]],
    shuffles: Sequence[Shuffles],
    model: str,
) -> Null:
    """The slope over all layers under every shuffle, each layer's experts shuffled apart.

    `values`: by layer, the metric of its active experts (in the order of `Shuffles.expert`), NaN where it
    has none; these experts stay without. There is no null for the mixed model.
    """
    if model not in MODELS:
        return none("the mixed model is not fitted again for every shuffle")
    above, below, experts = 0.0, 0.0, 0
    for slots, value, s in zip(every, values, shuffles):
        use = np.isfinite(value)
        if use.sum() < 2 or np.ptp(value[use]) == 0:
            continue
        score, square, count = _sums(slots, s.expert, use, model)
        x = value[use][s.among(use)][s.drawn]  # (draws, experts)
        n = count.sum()
        mean = x @ count / n
        sd = np.sqrt((x**2) @ count / n - mean**2)
        x = np.divide(x - mean[:, None], sd[:, None], out=np.zeros_like(x), where=sd[:, None] > 0)
        above = above + x @ score
        below = below + ((x @ square) * x).sum(axis=1)
        experts += int(use.sum())
    if experts == 0 or not below[0] > 0:  # pyright: ignore[reportIndexIssue]
        return none("no layer has two active experts with different values to shuffle", experts)
    above, below = np.asarray(above), np.asarray(below)
    slope = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    reach = abs(slope[0]) * (1 - 1e-9)
    return Null(slope, float((np.abs(slope) >= reach).mean()), experts)


def _sums(
    slots: Slots, expert: np.ndarray, use: np.ndarray, model: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcome less its mean (of the layer, or the token) by expert; the same of the experts' indicators,
    by pair; rows by expert."""
    place = np.full(int(expert.max()) + 2, -1)
    place[expert[use]] = np.arange(use.sum())
    column = np.where(slots.present, place[slots.expert], -1)  # (tokens, top_k)
    scored, size = column >= 0, int(use.sum())
    value = np.where(scored, slots.value, 0.0)
    count = np.bincount(column[scored], minlength=size).astype(float)
    if model == "cluster":
        centred = value - value.sum() / scored.sum()
        square = np.diag(count) - np.outer(count, count) / count.sum()
    else:
        per_token = np.maximum(scored.sum(axis=1, keepdims=True), 1)
        centred = value - value.sum(axis=1, keepdims=True) / per_token
        square = np.diag(count)
        for a in range(column.shape[1]):
            for b in range(column.shape[1]):
                both = scored[:, a] & scored[:, b]
                share = 1 / per_token[both, 0]
                pair = column[both, a] * size + column[both, b]
                square = square - np.bincount(pair, share, size * size).reshape(size, size)
    return np.bincount(column[scored], centred[scored], size), square, count
