"""How counterfactual rows come to be at a MoE layer.

The first row at each position is a pass-through: nothing is edited in it. It goes the way of all
rows, and outcomes are measured against it, so that an edit of nothing has an effect of exactly 0.0
and rounding common to all rows of a position cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int

from moeaudit.models import MoELayer
from moeaudit.models.contract import slot_contributions
from moeaudit.models.experts.many_rows import many_rows
from moeaudit.models.forward import ExpertsSeen, answering

from ..operators.routing import Edits, Routing, edited_answer, rank_order

if TYPE_CHECKING:
    from .plan import WalkPlan


@dataclass
class Birth:
    """New rows of one layer, and what each of them is about."""

    routing: Routing
    edits: Edits


def routing_at(
    moe: MoELayer, seen: ExpertsSeen, positions: Int[torch.Tensor, " positions"], document: int
) -> Routing:
    """The clean answer of one layer's router at some positions, slots in rank order."""
    index, weight = rank_order(seen.index[positions], seen.weight[positions])
    return Routing(moe, index.long(), weight, seen.hidden[positions], positions, document)


def births_by_delta(
    plan: WalkPlan,
    routing: Routing,
    edits: Edits,
    after: Float[torch.Tensor, "positions d_model"],
    scale: float,
) -> Float[torch.Tensor, "positions rows d_model"]:
    """The layer's output without an edit, `after`, plus `scale` times the change of the routed output.

    Exact where the routed output is only added to the residual (verified when the plan is made).
    Each expert that some row changes is evaluated once for a position, however many rows it is in.
    """
    delta = routed_change(plan, routing.layer, routing.hidden, edits)
    if edits.vector is not None:
        delta = delta + edits.vector
    return after[:, None] + scale * delta


def routed_change(
    plan: WalkPlan, moe: MoELayer, hidden: Float[torch.Tensor, "positions d_model"], edits: Edits
) -> Float[torch.Tensor, "positions rows d_model"]:
    """By how much each row's changes of weights move the routed output."""
    p, rows, changes = edits.expert.shape
    expert, change = edits.expert.reshape(p, -1), edits.change.reshape(p, -1)  # (p, rows * changes)
    # An entry that changes nothing falls on a column of its own, which is then cut off.
    touched = torch.where(change != 0, expert, moe.num_experts)
    involved = torch.zeros(p, moe.num_experts + 1, dtype=torch.int8, device=hidden.device)
    involved = involved.scatter_(1, touched, 1)[:, :-1]  # (p, experts)
    # As many columns as the position with the most experts needs. Asking the device how many that are
    # would wait for all work given to it, so where the bound is near it is taken.
    most = min(rows * changes, moe.num_experts)
    if most > moe.top_k:
        most = max(1, int(involved.sum(1).max()))
    units = involved.argsort(dim=1, descending=True, stable=True)[:, :most]  # (p, units)
    place = torch.zeros_like(involved, dtype=torch.long)  # (p, experts)
    place.scatter_(1, units, torch.arange(most, device=hidden.device).expand(p, most).contiguous())
    amount = change.new_zeros(p, rows, most)
    amount.scatter_add_(2, place.gather(1, expert).view(p, rows, changes), edits.change)
    ones = torch.ones_like(units, dtype=change.dtype)
    limit = plan.budget.pairs(plan.model, moe)
    step = max(1, limit // most)

    def moved(part: slice, of: slice) -> torch.Tensor:
        with many_rows(moe):
            outputs = slot_contributions(moe.experts, hidden[part], units[part, of], ones[part, of])
        return torch.bmm(amount[part, :, of], outputs.to(ones.dtype))  # (part, rows, d_model)

    out = []
    for a in range(0, p, step):
        part = slice(a, a + step)
        whole = moved(part, slice(0, limit))
        for b in range(limit, most, limit):
            whole = whole + moved(part, slice(b, b + limit))
        out.append(whole)
    return torch.cat(out)


def births_by_rerun(
    routing: Routing,
    edits: Edits,
    before: torch.Tensor,  # (positions, ...), the layer's input
    run_layer: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Run the whole layer again for each row with the router's answer replaced.

    For layers in which the routed output meets a norm, a second branch or a second attention
    before it reaches the residual. `run_layer` takes and gives rows `"positions rows ..."`, in
    order, some at a time.
    """
    p, rows, changes = edits.expert.shape
    k = routing.index.shape[-1]
    index, weight = edited_answer(
        routing.index.repeat_interleave(rows, 0).reshape(-1, k),
        routing.weight.repeat_interleave(rows, 0).reshape(-1, k),
        edits.expert.reshape(-1, changes),
        edits.change.reshape(-1, changes),
    )
    vector = None if edits.vector is None else edits.vector.flatten(0, 1)
    part = slice(0, 0)

    def answer(hidden: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal part
        part = slice(part.stop, part.stop + len(hidden))
        return index[part], weight[part]

    def add(output: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG001
        return None if vector is None else vector[part]

    with answering(routing.layer, answer, add):
        born = run_layer(before[:, None].expand(p, rows, *before.shape[1:]).contiguous())
    if part.stop != p * rows:
        raise RuntimeError(
            f"layer {routing.layer.index} called its experts for {part.stop} of {p * rows} rows"
        )
    return born
