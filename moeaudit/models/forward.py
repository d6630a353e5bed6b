"""The clean pass as the causal room needs it: what each MoE layer's experts were given."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int

from . import Model, MoELayer
from .modes import evaluating


@dataclass
class ExpertsSeen:
    """The arguments of one layer's experts call in the clean pass."""

    hidden: Float[torch.Tensor, "tokens d_model"]
    index: Int[torch.Tensor, "tokens top_k"]
    weight: Float[torch.Tensor, "tokens top_k"]


@torch.no_grad()
def clean_pass(
    model: Model, layers: list[MoELayer], ids: Int[torch.Tensor, "1 tokens"]
) -> tuple[Float[torch.Tensor, "tokens vocab"], dict[int, ExpertsSeen]]:
    """Logits of one document, and the experts' arguments by decoder layer index."""
    seen: dict[int, ExpertsSeen] = {}

    def record(index: int):
        def hook(module: Any, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
            seen[index] = ExpertsSeen(*[*args, *kwargs.values()][:3])

        return hook

    with evaluating(model.hf), ExitStack() as stack:
        for moe in layers:
            handle = moe.experts.register_forward_pre_hook(record(moe.index), with_kwargs=True)
            stack.callback(handle.remove)
        logits = model.hf(input_ids=ids, use_cache=False).logits[0]
    return logits, seen
