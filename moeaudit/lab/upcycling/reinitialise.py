"""Experts partly drawn anew, so that copies of one MLP have something to differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import Qwen2MoeForCausalLM


def reinitialise_units(model: Qwen2MoeForCausalLM, share: float, seed: int) -> None:
    """Draw `share` of each expert's inner units anew, in place: their rows of gate and up, their column of down.

    Normal, with the mean and standard deviation of the expert's own matrix. Which units, and their numbers, are drawn
    for every layer and expert on its own; whole units, so that those that stay keep what they compute.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in model.model.layers:
            experts = getattr(block.mlp, "experts", None)
            if experts is None:
                continue
            inner = experts.down_proj.shape[2]
            for e in range(experts.num_experts):
                unit = torch.randperm(inner, generator=draw)[: round(share * inner)]
                for rows in (unit, inner + unit):
                    _redraw(experts.gate_up_proj[e], rows, draw)
                _redraw(experts.down_proj[e].T, unit, draw)


def _redraw(matrix: torch.Tensor, rows: torch.Tensor, draw: torch.Generator) -> None:
    new = torch.randn(len(rows), matrix.shape[1], generator=draw)
    matrix[rows] = matrix.mean() + matrix.std() * new
