"""Which experts are chosen together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .grouping import Choices
from .trace import Trace


def coactivation(trace: Trace, layer: int | None = None) -> pd.DataFrame:
    r"""Co-activation of every ordered pair of experts of a layer (OLMoE, arXiv 2409.02060).

    `given` is \(N_{ij} / N_i\), the share of the tokens that chose `expert` which also chose `other`.
    All \(k (k-1)\) pairs of a token count. (The paper's released script counts only neighbours in
    rank order, k - 1 of the k (k-1) / 2 pairs, and so under-counts what its formula says.)

    Args:
        trace: what `capture` returned.
        layer: one decoder layer, or None for all MoE layers.

    Returns:
        Columns layer, expert, other, n (tokens with both), given (null if `expert` was never
        chosen), lift (`given` over the share of all tokens that chose `other`: 1 if the two are
        chosen independently; null if either was never chosen).

    Raises:
        InputError: a layer that the trace does not hold.
    """
    layers = trace.layers if layer is None else [layer]
    return pd.concat([_layer_pairs(trace, one) for one in layers], ignore_index=True)


def _layer_pairs(trace: Trace, layer: int) -> pd.DataFrame:
    choices = Choices.of(trace, layer).expert  # [tokens, top_k]
    size = trace.facts.num_experts[layer]
    both = np.zeros(size * size, dtype=np.int64)
    for i in range(choices.shape[1]):
        for j in range(choices.shape[1]):
            if i != j:
                both += np.bincount(choices[:, i] * size + choices[:, j], minlength=size * size)
    single = np.bincount(choices.reshape(-1), minlength=size).astype(np.float64)
    counts = both.reshape(size, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        given = np.where(single[:, None] > 0, counts / single[:, None], np.nan)
        lift = np.where(single[None, :] > 0, given / (single[None, :] / len(choices)), np.nan)
    expert, other = np.nonzero(~np.eye(size, dtype=bool))
    return pd.DataFrame(
        {
            "layer": layer,
            "expert": expert,
            "other": other,
            "n": counts[expert, other],
            "given": given[expert, other],
            "lift": lift[expert, other],
        }
    )
