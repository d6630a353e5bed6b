"""The controls that accompany every table: what nothing, the router and an oracle would give."""

from __future__ import annotations

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.seeds import generator

from .cells import Cell, pair
from .slots import Slots

CONTROLS = {
    "random": "negative: two active experts of the token at random; its true contrast is zero",
    "random_score": "negative: a random number for each expert; what luck over experts gives a metric",
    "gate_weight": "positive: the token's own largest against its smallest gate weight",
    "heldout_causal": "oracle: each expert's mean effect in other documents (cross-fitted folds)",
}


def check_controls(controls: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse unknown controls, and a table without any."""
    for name in controls:
        one_of(name, CONTROLS, "control")
    if not controls:
        raise InputError(
            "No control was asked for. A contrast cannot be read without one: keep at least "
            f"one of {', '.join(CONTROLS)} (all of them are the default)."
        )
    return controls


def control_cell(slots: Slots, name: str, *, seed: int, n_folds: int) -> Cell:
    """One control of one layer, through the same pairing as the metrics."""
    if name == "random":
        score = generator(seed, "control", "random", slots.layer).random(slots.expert.shape)
    elif name == "random_score":
        score = np.where(slots.present, random_score(slots, seed)[slots.expert], np.nan)
    elif name == "gate_weight":
        # Slots are in rank order (rank 0 is the largest weight), so the weight's order is known
        # without its value and no two slots tie.
        score = np.broadcast_to(-np.arange(slots.expert.shape[1], dtype=float), slots.expert.shape)
    else:
        if slots.n_documents < 2:
            return _empty(slots, name, "a held-out score needs at least 2 documents")
        score = heldout_score(slots, folds=document_folds(slots.n_documents, n_folds, seed))
    return pair(slots, score, name, "control")


def document_folds(n_documents: int, n_folds: int, seed: int) -> np.ndarray:
    """A fold for each document: as even as can be, shuffled by the seed."""
    n_folds = min(n_folds, n_documents)
    if n_folds < 2:
        raise InputError(
            f"Cross-fitting needs at least 2 folds of documents; there are {n_documents} "
            f"document(s) and {n_folds} fold(s)."
        )
    return generator(seed, "folds").permutation(np.arange(n_documents) % n_folds)


def heldout_score(slots: Slots, folds: np.ndarray) -> np.ndarray:
    """Each slot's expert scored by its mean effect over the documents of all other folds.

    (tokens, top_k); NaN where the expert was active in no other fold.
    """
    present = slots.present
    fold = np.broadcast_to(folds[slots.document][:, None], slots.expert.shape)
    score = np.full(slots.expert.shape, np.nan)
    score[present] = heldout_means(slots, folds)[fold[present], slots.expert[present]]
    return score


def heldout_means(slots: Slots, folds: np.ndarray) -> np.ndarray:
    """Mean effect of each expert over the documents of all folds but one: (folds, experts)."""
    n_folds = int(folds.max()) + 1
    n_experts = int(slots.expert.max()) + 1
    present = slots.present
    fold = np.broadcast_to(folds[slots.document][:, None], slots.expert.shape)
    flat = (fold * n_experts + slots.expert)[present]
    size = n_folds * n_experts
    total = np.bincount(flat, slots.value[present], size).reshape(n_folds, n_experts)
    count = np.bincount(flat, minlength=size).reshape(n_folds, n_experts)
    others = count.sum(axis=0) - count
    mean = np.full(total.shape, np.nan)
    np.divide(total.sum(axis=0) - total, others, out=mean, where=others > 0)
    return mean


def random_score(slots: Slots, seed: int) -> np.ndarray:
    """A random number for each expert of a layer, by expert."""
    size = int(slots.expert.max()) + 1
    return generator(seed, "control", "random score", slots.layer).random(size)


def _empty(slots: Slots, name: str, reason: str) -> Cell:
    return Cell(
        name,
        "control",
        slots.layer,
        document=np.empty(0, dtype=np.int64),
        high=np.empty(0),
        low=np.empty(0),
        n_offered=len(slots.document),
        n_unscored=len(slots.document),
        reason=reason,
    )
