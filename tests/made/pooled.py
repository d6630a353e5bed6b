"""MoE blocks whose router looks at the whole batch (as SegMoE's does), and one that looks at each token alone."""

from __future__ import annotations

from types import MethodType

import torch
from torch import nn


class Block(nn.Module):
    """`experts` linear experts of one width; each token goes to two of them.

    `pooled`: router logits are summed over all tokens of the batch and one pair of experts serves the call,
    weighted by each token's own softmax over that pair (SegMoE 0.0.4, `SparseMoeBlock.forward`).
    `capacity`: slots of a call that an expert serves; later tokens are dropped, copies of a sample as well.
    """

    def __init__(
        self, width: int = 16, experts: int = 6, *, pooled: bool, capacity: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(experts))
        self.pooled, self.capacity = pooled, capacity
        drawn = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=drawn) / width**0.5)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = self.gate(flat)
        if self.pooled:
            chosen = logits.sum(0).topk(2).indices.expand(len(flat), -1)
        else:
            chosen = logits.topk(2).indices
        weight = torch.softmax(logits.gather(1, chosen), -1, dtype=torch.float32)
        if self.capacity:  # the first slots an expert gets; later ones are dropped
            slots = torch.nn.functional.one_hot(chosen, len(self.experts)).flatten(0, 1)
            place = (slots.cumsum(0) * slots).sum(-1).view_as(chosen)
            weight = weight * (place <= self.capacity)
        every = torch.stack([expert(flat) for expert in self.experts], 1)
        picked = every.gather(1, chosen[..., None].expand(-1, -1, flat.shape[1]))
        return (picked * weight[..., None].to(picked)).sum(1).reshape(hidden.shape)


class LeaningSoftly(Block):
    """A per-token choice whose weights lean by `lean` on the batch's mean: no selection ever changes."""

    def __init__(self, lean: float) -> None:
        super().__init__(pooled=False)
        self.lean = lean

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        mean = hidden.mean((0, 1), keepdim=True)
        return super().forward(hidden) + self.lean * mean


def pool_the_router(model: nn.Module, layer: int = 1) -> None:
    """Have one router of a tiny transformers MoE choose the same experts for all tokens of the batch."""
    gate = model.model.layers[layer].mlp.gate

    def forward(self, hidden: torch.Tensor):
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = torch.nn.functional.linear(flat, self.weight)
        chosen = logits.sum(0).topk(self.top_k).indices.expand(len(flat), -1)
        return logits, torch.softmax(logits, -1).gather(1, chosen), chosen

    gate.forward = MethodType(forward, gate)  # bound, so that a copy of the model has its own
