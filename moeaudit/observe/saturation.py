"""How far a router's choices agree with those of another checkpoint on the same text."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int64

from moeaudit.errors import InputError

from .grouping import Choices, token_rows
from .trace import Trace


def router_saturation(trace: Trace, other: Trace) -> pd.DataFrame:
    r"""Router saturation (OLMoE, arXiv 2409.02060, section 5): overlap of the chosen sets.

    \(|S_t \cap S'_t| / k\), averaged over tokens, where \(S_t\) and \(S'_t\) are the experts the two
    checkpoints choose for the same token. Expert numbers must mean the same in both, so compare
    checkpoints of one training run (or a model with its fine-tuned self), never two runs.

    Args:
        trace: usually the final checkpoint.
        other: the same documents read by another checkpoint with the same experts.

    Returns:
        One row per layer: layer, top_k (mean overlap of the chosen sets), top_1 (share of tokens
        whose top-ranked expert agrees), chance (expected overlap of random sets, k / E), tokens.

    Raises:
        InputError: different tokens, layers, or numbers of experts.
    """
    if trace.layers != other.layers or trace.facts.num_experts != other.facts.num_experts:
        raise InputError(
            f"The two traces have different MoE layers or experts ({trace.layers} against "
            f"{other.layers}). Expected two checkpoints of one architecture."
        )
    rows = []
    for layer in trace.layers:
        mine, theirs = Choices.of(trace, layer), Choices.of(other, layer)
        if (
            mine.expert.shape != theirs.expert.shape
            or (mine.document != theirs.document).any()
            or (mine.position != theirs.position).any()
            or (_ids(trace, mine) != _ids(other, theirs)).any()
        ):
            raise InputError(
                f"The two traces do not hold the same tokens: {len(mine.expert)} and "
                f"{len(theirs.expert)} at layer {layer}, of {trace.facts.model} and "
                f"{other.facts.model}. Capture both checkpoints on the same documents with the "
                "same tokenizer and max_length."
            )
        a, b = mine.expert, theirs.expert  # [tokens, top_k]
        shared = (a[:, :, None] == b[:, None, :]).any(axis=2).mean(axis=1)
        rows.append(
            {
                "layer": layer,
                "top_k": float(shared.mean()),
                "top_1": float((a[:, 0] == b[:, 0]).mean()),
                "chance": a.shape[1] / trace.facts.num_experts[layer],
                "tokens": len(a),
            }
        )
    return pd.DataFrame(rows)


def _ids(trace: Trace, choices: Choices) -> Int64[np.ndarray, " tokens"]:
    """Token ids in the order of the choices."""
    rows = token_rows(trace, choices.document, choices.position)
    return trace.tokens["token"].to_numpy(np.int64)[rows]
