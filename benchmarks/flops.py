"""How many floating-point operations a census needs, counted from the model's matrices.

A multiplication by an m x n matrix costs 2mn a token. A layer costs its matrices outside the experts,
top_k experts, and per key that is attended to 2 (query width + value width) per head. A
counterfactual born at layer l is one more token in the layers above l and in the head; at l itself it
costs nothing new, since the clean pass computes every active expert's output anyway. The last token
of a document has no target and no rows. What is looked up, added or normalised is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import moeaudit as ma


@dataclass(frozen=True)
class Flops:
    """Operations of one document: a plain forward, the census of every active expert, and the walk.

    `walk` is what the census really does: a pass-through row at each position goes along from the first
    sparse layer to the head, and each active expert is evaluated once more where rows are born.
    """

    forward: float
    census: float
    walk: float

    @staticmethod
    def of(model: ma.Model, tokens: int) -> Flops:
        """For a document of `tokens` tokens; each token attends to (tokens + 1) / 2 keys on average."""
        config = model.hf.config.get_text_config()
        keys = (tokens + 1) / 2
        attention = 2 * config.num_attention_heads * _widths(config) * keys
        sparse = {layer.index: layer for layer in model.anatomy.layers}
        cost, born = [], 0.0
        for index, decoder_layer in enumerate(model.anatomy.decoder_layers):
            matrices = sum(p.numel() for p in decoder_layer.parameters() if p.ndim > 1)
            if index in sparse:
                layer = sparse[index]
                experts = sum(p.numel() for p in layer.experts.parameters() if p.ndim > 1)
                active = experts * layer.top_k / layer.num_experts
                matrices += active - experts
                born += 2 * active
            cost.append(2 * matrices + attention)
        head = 2 * config.hidden_size * model.vocab_size
        above = np.cumsum([0.0, *reversed(cost)])[::-1]  # above[l + 1]: layers l + 1 and up
        rows = sum(layer.top_k * (above[index + 1] + head) for index, layer in sparse.items())
        forward = tokens * (above[0] + head)
        beside = above[min(sparse)] + head + born
        census = forward + (tokens - 1) * rows
        return Flops(float(forward), float(census), float(census + (tokens - 1) * beside))


def _widths(config) -> int:
    """Numbers of a head's query and value together."""
    if hasattr(config, "kv_lora_rank"):  # latent attention: keys carry a rotary part of their own
        return config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * width


def census_flops(model: ma.Model, lengths: Iterable[int]) -> float:
    """Operations of a census of documents of these lengths."""
    return sum(Flops.of(model, tokens).census for tokens in lengths)
