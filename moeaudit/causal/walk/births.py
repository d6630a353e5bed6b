"""How counterfactual rows come to be at a MoE layer.

The first row at each position is a pass-through: nothing is edited in it. It goes the way of all
rows, and outcomes are measured against it, so that an edit of nothing has an effect of exactly 0.0
and rounding common to all rows of a position cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int

from moeaudit.models import MoELayer
from moeaudit.models.contract import slot_contributions
from moeaudit.models.forward import ExpertsSeen

from ..operators.routing import Edits, Intervention, Routing, edited_answer, rank_order

_EXPERT_ROWS = 8192  # (position, expert) pairs evaluated at once


@dataclass
class Birth:
    """New rows of one layer, and what each of them is about."""

    layer: int
    hidden: torch.Tensor  # (positions, rows, ...), the layer's output for each row
    routing: Routing
    edits: Edits


def routing_at(
    moe: MoELayer, seen: ExpertsSeen, positions: Int[torch.Tensor, " positions"]
) -> Routing:
    """The clean answer of one layer's router at some positions, slots in rank order."""
    index, weight = rank_order(seen.index[positions], seen.weight[positions])
    return Routing(moe, index, weight, seen.hidden[positions], positions)


def births_by_delta(
    moe: MoELayer,
    intervention: Intervention,
    seen: ExpertsSeen,
    positions: Int[torch.Tensor, " positions"],
    after: Float[torch.Tensor, "positions d_model"],
    scale: float,
) -> Birth:
    """The layer's output without an edit, `after`, plus `scale` times the change of the routed output.

    Exact where the routed output is only added to the residual (verified when the plan is made).
    Each expert that some row changes is evaluated once for a position, however many rows it is in.
    """
    routing = routing_at(moe, seen, positions)
    edits = intervention.edits(routing)
    delta = routed_change(moe, routing.hidden, edits)
    if edits.vector is not None:
        delta = delta + edits.vector
    return Birth(moe.index, after[:, None] + scale * delta, routing, edits)


def routed_change(
    moe: MoELayer, hidden: Float[torch.Tensor, "positions d_model"], edits: Edits
) -> Float[torch.Tensor, "positions rows d_model"]:
    """By how much each row's changes of weights move the routed output."""
    p, rows, changes = edits.expert.shape
    expert, change = edits.expert.reshape(p, -1), edits.change.reshape(p, -1)
    # An entry that changes nothing falls on a column of its own, which is then cut off.
    touched = torch.where(change != 0, expert, moe.num_experts)
    involved = torch.zeros(p, moe.num_experts + 1, dtype=torch.int8, device=hidden.device)
    involved = involved.scatter_(1, touched, 1)[:, :-1]
    most = max(1, int(involved.sum(1).max()))
    units = involved.argsort(dim=1, descending=True, stable=True)[:, :most]  # (p, units)
    place = torch.zeros_like(involved, dtype=torch.long)
    place.scatter_(1, units, torch.arange(most, device=hidden.device).expand(p, most).contiguous())
    amount = change.new_zeros(p, rows, most)
    amount.scatter_add_(2, place.gather(1, expert).view(p, rows, changes), edits.change)
    ones = torch.ones_like(units, dtype=change.dtype)
    step = max(1, _EXPERT_ROWS // most)
    out = [
        torch.bmm(amount[part], _outputs(moe, hidden[part], units[part], ones[part]))
        for part in (slice(a, a + step) for a in range(0, p, step))
    ]
    return torch.cat(out)


def _outputs(
    moe: MoELayer, hidden: torch.Tensor, units: torch.Tensor, ones: torch.Tensor
) -> torch.Tensor:
    return slot_contributions(moe.experts, hidden, units, ones).to(ones.dtype)


def births_by_rerun(
    moe: MoELayer,
    intervention: Intervention,
    seen: ExpertsSeen,
    positions: Int[torch.Tensor, " positions"],
    before: torch.Tensor,  # (positions, ...), the layer's input
    run_layer: Callable[[torch.Tensor], torch.Tensor],
) -> Birth:
    """Run the whole layer again for each row with the router's answer replaced.

    For layers in which the routed output meets a norm, a second branch or a second attention
    before it reaches the residual.
    """
    routing = routing_at(moe, seen, positions)
    edits = intervention.edits(routing)
    p, rows, changes = edits.expert.shape
    k = routing.index.shape[-1]
    index, weight = edited_answer(
        routing.index.repeat_interleave(rows, 0).reshape(-1, k),
        routing.weight.repeat_interleave(rows, 0).reshape(-1, k),
        edits.expert.reshape(-1, changes),
        edits.change.reshape(-1, changes),
    )
    vector = None if edits.vector is None else edits.vector.flatten(0, 1)
    done = 0

    def replace(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:  # noqa: ARG001
        nonlocal done
        given, old_index, old_weight = [*args, *kwargs.values()][:3]
        part = slice(done, done + given.shape[0])
        done += given.shape[0]
        return (given, index[part].to(old_index.dtype), weight[part].to(old_weight.dtype)), {}

    def add(module: Any, args: tuple, kwargs: dict, output: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG001
        if vector is None:
            return None
        part = vector[done - len(args[0]) : done]
        return output + part.reshape(output.shape).to(output.dtype)

    handle = moe.experts.register_forward_pre_hook(replace, with_kwargs=True)
    added = moe.experts.register_forward_hook(add, with_kwargs=True)
    try:
        starts = before[:, None].expand(p, rows, *before.shape[1:]).contiguous()
        hidden = run_layer(starts)
    finally:
        handle.remove()
        added.remove()
    if done != p * rows:
        raise RuntimeError(f"layer {moe.index} called its experts for {done} of {p * rows} rows")
    return Birth(moe.index, hidden, routing, edits)
