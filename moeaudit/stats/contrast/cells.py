"""A cell: one metric (or control) in one layer, and the paired effects that test it.

Which pair a token gives is decided here, once, for metrics and controls alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from ..families.experts import Null
from .slots import Slots


@dataclass(frozen=True)
class Cell:
    """Paired effects of one cell, and what was left out of it.

    `high` and `low` are the outcome under removal of the token's highest- and lowest-scored active
    expert; `document` the code of each token's document, `pair` these two experts (of several that tie, the
    first of each).
    """

    metric: str
    role: str
    layer: int | None
    document: Int[np.ndarray, " tokens"]
    high: Float[np.ndarray, " tokens"]
    low: Float[np.ndarray, " tokens"]
    n_offered: int
    n_tied: int = 0
    n_all_tied: int = 0
    n_unscored: int = 0
    n_partial: int = 0
    reason: str | None = None
    position: np.ndarray | None = field(default=None, repr=False)
    null: Null | None = field(default=None, repr=False)  # over experts; None: was not asked for
    layer_mean: float = np.nan  # of the outcome, over all of the layer's rows
    pair: Int[np.ndarray, "tokens 2"] | None = field(default=None, repr=False)
    tested: bool = True  # False: no expert has a value of this metric, so it is in no family

    @property
    def difference(self) -> Float[np.ndarray, " tokens"]:
        return self.high - self.low

    @property
    def n_dropped(self) -> int:
        return self.n_offered - len(self.document)


def pair(slots: Slots, score: np.ndarray, metric: str, role: str) -> Cell:
    """The highest- against the lowest-scored active expert of every token.

    Rules, each counted: experts without a score (NaN) are not compared, and a token with fewer than
    two scored experts is dropped (`n_unscored`); a token that compares some but not all of its
    experts is kept (`n_partial`); a token whose scored experts all tie is dropped (`n_all_tied`);
    where several experts share the highest or the lowest score, the mean of their effects is used,
    which is the expectation of breaking the tie at random (`n_tied`).
    """
    present = slots.present
    scored = present & ~np.isnan(score)
    top = np.where(scored, score, -np.inf).max(axis=1)  # (tokens,)
    bottom = np.where(scored, score, np.inf).min(axis=1)
    enough = scored.sum(axis=1) >= 2
    differ = top > bottom
    keep = enough & differ
    value = np.where(scored, slots.value, 0.0)[keep]
    is_top = (scored & (score == top[:, None]))[keep]
    is_bottom = (scored & (score == bottom[:, None]))[keep]
    n_top, n_bottom = is_top.sum(axis=1), is_bottom.sum(axis=1)
    slot = np.stack([is_top.argmax(axis=1), is_bottom.argmax(axis=1)], axis=1)
    partial = (scored.sum(axis=1) < present.sum(axis=1))[keep]
    cell_reason = None
    if not keep.any():
        cell_reason = (
            "no token has two active experts with a value of this metric"
            if not enough.any()
            else "every token's active experts tie on this metric"
        )
    return Cell(
        metric=metric,
        role=role,
        layer=slots.layer,
        document=slots.document[keep],
        position=slots.position[keep],
        high=(value * is_top).sum(axis=1) / np.maximum(n_top, 1),
        low=(value * is_bottom).sum(axis=1) / np.maximum(n_bottom, 1),
        n_offered=len(slots.document),
        n_tied=int(((n_top > 1) | (n_bottom > 1)).sum()),
        n_all_tied=int((enough & ~differ).sum()),
        n_unscored=int((~enough).sum()),
        n_partial=int(partial.sum()),
        pair=np.take_along_axis(slots.expert[keep], slot, axis=1),
        reason=cell_reason,
    )


def metric_score(slots: Slots, expert: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The metric of each slot's expert: (tokens, top_k), NaN where the metric has no value for it."""
    size = int(max(slots.expert.max(initial=0), expert.max(initial=0))) + 2
    lookup = np.full(size, np.nan)
    lookup[expert] = value
    return lookup[slots.expert]  # expert -1 reads the last entry, which is never set
