"""How counterfactual rows come to be at a MoE layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int

from moeaudit.models import MoELayer
from moeaudit.models.contract import slot_contributions

from .clean import ExpertsSeen
from .interventions import Edits, Intervention, Routing, edited_answer, rank_order

_EXPERT_ROWS = 8192  # (row, changed expert) pairs evaluated at once


@dataclass
class Birth:
    """New rows of one layer, and what each of them is about."""

    layer: int
    hidden: torch.Tensor  # (positions, rows, ...), the layer's output for each row
    rank: Int[torch.Tensor, "positions rows"]
    expert: Int[torch.Tensor, "positions rows"]
    weight: Float[torch.Tensor, "positions rows"]
    about: dict[str, torch.Tensor]


def _edit(
    moe: MoELayer, intervention: Intervention, seen: ExpertsSeen, positions: torch.Tensor
) -> tuple[Routing, Edits]:
    index, weight = rank_order(seen.index[positions], seen.weight[positions])
    routing = Routing(moe, index, weight, seen.hidden[positions], positions)
    return routing, intervention.edits(routing)


def _birth(moe: MoELayer, routing: Routing, edits: Edits, hidden: torch.Tensor) -> Birth:
    return Birth(moe.index, hidden, edits.rank, *edits.named(routing), edits.about)


def births_by_delta(
    moe: MoELayer,
    intervention: Intervention,
    seen: ExpertsSeen,
    positions: Int[torch.Tensor, " positions"],
    hidden_out: Float[torch.Tensor, "tokens d_model"],
    scale: float,
) -> Birth:
    """The layer's clean output plus `scale` times the change of the routed output.

    Exact where the routed output is only added to the residual (verified when the plan is made);
    costs one expert evaluation for each changed weight.
    """
    routing, edits = _edit(moe, intervention, seen, positions)
    p, rows, changes = edits.expert.shape
    expert, change = edits.expert.reshape(p, -1), edits.change.reshape(p, -1)
    hidden, step = seen.hidden[positions], max(1, _EXPERT_ROWS // (rows * changes))
    out = [
        slot_contributions(
            moe.experts, hidden[a : a + step], expert[a : a + step], change[a : a + step]
        )
        for a in range(0, p, step)
    ]
    delta = torch.cat(out).reshape(p, rows, changes, -1).sum(2)
    if edits.vector is not None:
        delta = delta + edits.vector
    return _birth(moe, routing, edits, hidden_out[positions][:, None] + scale * delta)


def births_by_rerun(
    moe: MoELayer,
    intervention: Intervention,
    seen: ExpertsSeen,
    positions: Int[torch.Tensor, " positions"],
    clean_in: torch.Tensor,  # (positions, ...), the layer's clean input
    run_layer: Callable[[torch.Tensor], torch.Tensor],
) -> Birth:
    """Run the whole layer again for each row with the router's answer replaced.

    For layers in which the routed output meets a norm, a second branch or a second attention
    before it reaches the residual.
    """
    routing, edits = _edit(moe, intervention, seen, positions)
    p, rows, changes = edits.expert.shape
    k = routing.index.shape[-1]
    index, weight = edited_answer(
        routing.index.repeat_interleave(rows, 0).reshape(-1, k),
        routing.weight.repeat_interleave(rows, 0).reshape(-1, k),
        edits.expert.reshape(-1, changes),
        edits.change.reshape(-1, changes),
    )
    done = 0

    def replace(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:  # noqa: ARG001
        nonlocal done
        given, old_index, old_weight = [*args, *kwargs.values()][:3]
        part = slice(done, done + given.shape[0])
        done += given.shape[0]
        return (given, index[part].to(old_index.dtype), weight[part].to(old_weight.dtype)), {}

    vector = None if edits.vector is None else edits.vector.flatten(0, 1)

    def add(module: Any, args: tuple, kwargs: dict, output: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG001
        if vector is None:
            return None
        part = vector[done - len(args[0]) : done]
        return output + part.reshape(output.shape).to(output.dtype)

    handle = moe.experts.register_forward_pre_hook(replace, with_kwargs=True)
    added = moe.experts.register_forward_hook(add, with_kwargs=True)
    try:
        starts = clean_in[:, None].expand(p, rows, *clean_in.shape[1:]).contiguous()
        hidden = run_layer(starts)
    finally:
        handle.remove()
        added.remove()
    if done != p * rows:
        raise RuntimeError(f"layer {moe.index} called its experts for {done} of {p * rows} rows")
    return _birth(moe, routing, edits, hidden)
