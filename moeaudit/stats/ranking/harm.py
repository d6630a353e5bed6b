"""The expected harm of removing each expert of a layer, and how well it is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from moeaudit.seeds import generator

from ..contrast.slots import Slots
from .correlation import paired_spearman, spearman_brown

MIN_DOCUMENTS = 10
N_SPLITS = 200


@dataclass(frozen=True)
class Harm:
    """One layer's effects summed by document and expert, for the experts seen often enough."""

    layer: int
    expert: np.ndarray
    total: Float[np.ndarray, "documents experts"]
    count: Float[np.ndarray, "documents experts"]
    tokens: Float[np.ndarray, " documents"]
    n_dropped: int
    per: str

    def mean(self, weights: Float[np.ndarray, "sets documents"]) -> np.ndarray:
        """Expected harm of each expert under document weights, (sets, experts); NaN without data."""
        count = weights @ self.count
        below = count if self.per == "active_token" else (weights @ self.tokens)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(count > 0, (weights @ self.total) / below, np.nan)


def harm_of(slots: Slots, per: str) -> Harm:
    """Reduce a layer to document sums; drop (and count) experts active in too few documents."""
    present = slots.present
    n_experts = int(slots.expert.max()) + 1
    document = np.broadcast_to(slots.document[:, None], slots.expert.shape)
    flat = (document * n_experts + slots.expert)[present]
    size = slots.n_documents * n_experts
    total = np.bincount(flat, slots.value[present], size).reshape(-1, n_experts)
    count = np.bincount(flat, minlength=size).reshape(-1, n_experts).astype(np.float64)
    seen = (count > 0).sum(axis=0)
    keep = seen >= min(MIN_DOCUMENTS, slots.n_documents)
    tokens = np.bincount(slots.document, minlength=slots.n_documents).astype(np.float64)
    dropped = int(((seen > 0) & ~keep).sum())
    expert = np.flatnonzero(keep)
    return Harm(slots.layer, expert, total[:, keep], count[:, keep], tokens, dropped, per)


def reliability(harm: Harm, seed: int, n_splits: int = N_SPLITS) -> float:
    """Split-half reliability of the experts' harm: Spearman of halves of documents, stepped up.

    Mean over `n_splits` random halvings, then Spearman-Brown 2r / (1 + r). NaN if not estimable.
    """
    n = len(harm.tokens)
    if len(harm.expert) < 2:
        return float("nan")
    rng = generator(seed, "halves", harm.layer)
    halves = rng.permuted(np.tile(np.arange(n) % 2, (n_splits, 1)), axis=1).astype(np.float64)
    a, b = harm.mean(halves), harm.mean(1 - halves)
    both = ~(np.isnan(a) | np.isnan(b)).any(axis=1)
    if not both.any():
        return float("nan")
    r = paired_spearman(a[both], b[both])
    r = r[np.isfinite(r)]
    return spearman_brown(float(r.mean())) if len(r) and r.mean() > -1 else float("nan")
