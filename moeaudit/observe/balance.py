"""How evenly a layer's experts are used, within documents and over all of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from .grouping import Choices
from .trace import Trace


def load_balance(trace: Trace) -> pd.DataFrame:
    r"""Load balance of each layer at two scopes (after arXiv 2501.11873).

    \(B = E \sum_e f_e P_e\) with \(f_e\) the share of all choices that went to expert e (so \(\sum f = 1\))
    and \(P_e\) its mean routing weight, each token's chosen weights scaled to sum to 1. B is 1 when
    both are even and E when one expert takes everything. `sequence` computes B per document and
    averages over documents; `global` computes f and P over all tokens first. Documents that each
    use few experts, but different ones, are unbalanced by sequence and balanced globally: their
    ratio `separation` is 1 without such structure and grows with it.

    Two things to know when comparing with training losses. The loss averages the router's whole
    distribution for P, while a trace holds the chosen experts; the minimum, 1, is the same. And
    transformers' `load_balancing_loss_func` pools all layers and does not divide by k, so that it
    is k when balanced.

    Args:
        trace: what `capture` returned.

    Returns:
        One row per layer: layer, sequence, global, separation, busiest (largest share of tokens
        that choose one expert), cv (standard deviation over mean of the experts' counts),
        effective (exponential of the entropy of f: number of experts in even use), never (experts
        that no token chose), experts.
    """
    rows = []
    for layer in trace.layers:
        size = trace.facts.num_experts[layer]
        choices = Choices.of(trace, layer)
        weight = _normalised(choices.weight)
        document = np.unique(choices.document, return_inverse=True)[1].astype(np.int64)
        by_document = [
            _balance(counts, shares, size)
            for counts, shares in zip(*_sums(document, choices.expert, weight, size))
        ]
        counts, shares = _sums(np.zeros_like(document), choices.expert, weight, size)
        overall = _balance(counts[0], shares[0], size)
        sequence = float(np.mean(by_document))
        used = counts[0] / counts[0].sum()
        entropy = -np.sum(used[used > 0] * np.log(used[used > 0]))
        rows.append(
            {
                "layer": layer,
                "sequence": sequence,
                "global": overall,
                "separation": sequence / overall,
                "busiest": float(counts[0].max() / len(document)),
                "cv": float(counts[0].std() / counts[0].mean()),
                "effective": float(np.exp(entropy)),
                "never": int((counts[0] == 0).sum()),
                "experts": size,
            }
        )
    return pd.DataFrame(rows)


def _normalised(weight: Float[np.ndarray, "tokens top_k"]) -> Float[np.ndarray, "tokens top_k"]:
    """Each token's weights scaled to sum to 1; even where they are all zero."""
    total = np.abs(weight).sum(axis=1, keepdims=True)
    even = np.full(weight.shape, 1 / weight.shape[1])
    return np.divide(np.abs(weight), total, out=even, where=total > 0)


def _sums(
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


def _balance(
    counts: Float[np.ndarray, " experts"], shares: Float[np.ndarray, " experts"], size: int
) -> float:
    return float(size * np.sum((counts / counts.sum()) * (shares / shares.sum())))
