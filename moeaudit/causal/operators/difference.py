"""From another answer of the router to the change of weights that leads there."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int

from moeaudit.models.precision import units

from .routing import Routing


def edits_by_difference(
    routing: Routing,
    index: Int[torch.Tensor, "positions rows slots"],
    weight: Float[torch.Tensor, "positions rows slots"],
) -> tuple[
    Int[torch.Tensor, "positions rows changes"], Float[torch.Tensor, "positions rows changes"]
]:
    """`expert` and `change` of Edits for rows in which `index` and `weight` are the whole answer.

    $dw_e = \\sum_s [i'_s = e] w'_s - \\sum_s [i_s = e] w_s$, kept for the experts where it is not 0
    (rounding of the router run a second time is taken for 0). An expert named in two slots carries
    the sum of their weights, as it does in the model.
    """
    p, rows, _ = index.shape
    size = routing.layer.num_experts
    before = weight.new_zeros(p, size).scatter_add(1, routing.index, routing.weight)[:, None]
    after = weight.new_zeros(p, rows, size).scatter_add(2, index, weight)
    change = after - before  # (positions, rows, experts)
    noise = units(change, 8) * before.abs()
    change = torch.where(change.abs() <= noise, 0.0, change)
    count = max(1, int((change != 0).sum(-1).max()))
    first = (change == 0).to(torch.int8).argsort(dim=-1, stable=True)[..., :count]
    return first, change.gather(-1, first)
