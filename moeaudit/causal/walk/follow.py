"""Rows that lose their expert again in later layers: what an operator's `later` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int

from moeaudit.models import MoELayer

from ..operators.routing import later_layers, shared_later

if TYPE_CHECKING:
    from .births import Birth
    from .forwards import Edit
    from .plan import WalkPlan


def followed(plan: WalkPlan) -> list[MoELayer]:
    """Layers in which rows born below go on losing their expert.

    Raises InputError for a layer that does not exist, or has another number of experts than the row's own.
    """
    found: dict[int, MoELayer] = {}
    for layer in plan.layers:
        found |= {m.index: m for m in shared_later(plan.operator, plan.model.anatomy, layer)}
    return [found[i] for i in sorted(found)]


def leaving(
    births: Sequence[Birth], i: int, plan: WalkPlan
) -> list[Int[torch.Tensor, "positions rows"]]:
    """For each birth the expert that its rows lose again in layer i, -1 for none."""
    out = []
    for birth in births:
        expert = birth.edits.named(birth.routing)[0]
        again = i in later_layers(plan.operator, birth.routing.layer.index)
        out.append(expert if again else torch.full_like(expert, -1))
    return out


def without(
    index: Int[torch.Tensor, "tokens top_k"],
    weight: Float[torch.Tensor, "tokens top_k"],
    gone: Int[torch.Tensor, " tokens"],
) -> tuple[Int[torch.Tensor, "tokens top_k"], Float[torch.Tensor, "tokens top_k"]]:
    """The answer with each token's expert at weight 0, wherever it was chosen; -1 for none."""
    return index, weight.masked_fill(index == gone.to(index)[:, None], 0.0)


def losing(edit: Edit | None, position: int, expert: int) -> Edit:
    """An edit of one copy of the document, and at one position the expert's weight 0 besides."""
    from .forwards import Answer

    def again(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Answer:
        answer = Answer(index, weight) if edit is None else edit(hidden, index, weight)
        gone = answer.index.new_full((len(answer.index),), -1)
        gone[position] = expert
        return Answer(*without(answer.index, answer.weight, gone), answer.vector)

    return again
