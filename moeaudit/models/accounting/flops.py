"""Floating-point operations of one forward, counted from the sizes of the layers; a multiply-add counts as two."""

from __future__ import annotations

from .shapes import LayerShape, Shapes


def forward_flops(shapes: Shapes, tokens: int) -> float:
    """Operations of matrix products in one forward over a document of `tokens` tokens, the head included."""
    return sum(layer_flops(layer, tokens) for layer in shapes.layers) + 2.0 * tokens * shapes.head


def layer_flops(layer: LayerShape, tokens: int) -> float:
    """Operations of the first `tokens` tokens of a document in one layer."""
    within = tokens if layer.window is None else min(tokens, layer.window)
    keys = within * (within + 1) // 2 + (tokens - within) * within
    return 2.0 * (tokens * layer.active + layer.per_key * keys)
