"""Counts and weights of experts by group of tokens, and the balance of each group: arrays only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64


def normalised(weight: Float[np.ndarray, "tokens top_k"]) -> Float[np.ndarray, "tokens top_k"]:
    """Each token's weights scaled to sum to 1; even where they are all zero."""
    total = np.abs(weight).sum(axis=1, keepdims=True)
    even = np.full(weight.shape, 1 / weight.shape[1])
    return np.divide(np.abs(weight), total, out=even, where=total > 0)


def sums(
    group: Int64[np.ndarray, " tokens"],
    choices: Int64[np.ndarray, "tokens top_k"],
    weights: Float[np.ndarray, "tokens top_k"],
    size: int,
) -> tuple[Float[np.ndarray, "groups experts"], Float[np.ndarray, "groups experts"]]:
    """Counts and summed weights of each expert in each group of tokens."""
    groups = int(group.max()) + 1
    cell = (group[:, None] * size + choices).reshape(-1)
    counts = np.bincount(cell, minlength=groups * size).astype(np.float64)
    shares = np.bincount(cell, weights=weights.reshape(-1), minlength=groups * size)
    return counts.reshape(groups, size), shares.reshape(groups, size)


def balances(
    counts: Float[np.ndarray, "groups experts"], shares: Float[np.ndarray, "groups experts"]
) -> Float[np.ndarray, " groups"]:
    r"""\(E \sum_e f_e P_e\) of each group, \(f\) and \(P\) the counts and weights scaled to sum to 1."""
    f = counts / counts.sum(axis=1, keepdims=True)
    p = shares / shares.sum(axis=1, keepdims=True)
    return counts.shape[1] * (f * p).sum(axis=1)
