"""One forward for one removal, as a user would write it: the reference the replay is held to."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Plain(NamedTuple):
    delta_nll: float
    kl: float
    flip: bool


def logits_with(
    model: Any, ids: torch.Tensor, experts: torch.nn.Module | None, edit: Any
) -> torch.Tensor:
    """Float64 log-probabilities of a forward whose experts call is edited by `edit`."""
    handle = None
    if experts is not None:

        def hook(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            hidden, index, weight = [*args, *kwargs.values()]
            return (hidden, *edit(index.clone(), weight.clone())), {}

        handle = experts.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        if handle is not None:
            handle.remove()
    return torch.log_softmax(logits[0].double(), -1)


def removal(
    model: Any, ids: torch.Tensor, experts: torch.nn.Module, position: int, expert: int
) -> Plain:
    """Effect of removing `expert` for the token at `position`, on the prediction after it."""

    def zero(index: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight[position, index[position] == expert] = 0.0
        return index, weight

    clean = logits_with(model, ids, None, None)[position]
    edited = logits_with(model, ids, experts, zero)[position]
    target = ids[0, position + 1]
    kl = (clean.exp() * (clean - edited)).sum()
    return Plain(
        float(clean[target] - edited[target]), float(kl), bool(clean.argmax() != edited.argmax())
    )
