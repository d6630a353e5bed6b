"""Rows through a layer's experts on a CPU: all at once through small experts, one large expert after the other.

transformers' grouped product lays out all (row, slot) pairs and goes over them seven times, in memory that is asked
for anew at each call. Small experts, whose products are short, weigh, order and sum them in one pass here; large ones
take their rows one expert at a time, whose numbers stay in the cache, in room that is used again. What is computed is
the same, in the same order but for the sum over slots.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch.nn import functional

from ..anatomy import Kept
from ..precision import rounding

if TYPE_CHECKING:
    from torch import nn

    from ..anatomy import MoELayer

NAME = "moeaudit_many_rows"
OF = "grouped_mm"  # the function in whose place it stands
LEAST = 48  # rows of a large expert, on average, below which calls cost more than they save
SMALL = 1 << 18  # bytes of an expert's matrices up to which experts go together
MANY = 8192  # (row, slot) pairs up to which they do: more of them leave the cache
_LOOKED_AT = 64  # random rows on which it is held against the function of a layer

# Before torch 2.11 a CPU's grouped product refuses weights that lie where a file was mapped.
_BY_NAME = hasattr(functional, "grouped_mm") and torch.__version__ >= "2.11"
# Whether it computes what the layer's experts compute, once that is measured.
_FITS: Kept[bool] = Kept()
_ASKS: Kept[bool] = Kept()  # whether the experts ask transformers' registry how to compute


@contextmanager
def many_rows(layer: MoELayer | None) -> Iterator[None]:
    """Inside, calls of this layer's experts run `experts_of_rows`.

    Only where they would run transformers' grouped product, in float32 on a CPU; a user's own choice of function
    and a forward of their own are left as they are.
    """
    config: Any = None if layer is None else getattr(layer.experts, "config", None)
    kept = "_experts_implementation_internal"
    if layer is None or getattr(config, kept, None) != OF or not _asks(layer.experts):
        yield
        return
    setattr(config, kept, NAME)
    try:
        yield
    finally:
        setattr(config, kept, OF)


def _asks(experts: nn.Module) -> bool:
    """Whether the class's forward is the one that looks its function up in transformers' own registry."""
    known = _ASKS.of(experts)
    if known is None:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS as REGISTRY

        forward: Any = type(experts).forward
        asked = inspect.getclosurevars(forward).nonlocals if inspect.isfunction(forward) else {}
        known = asked.get("experts_interface") is REGISTRY
        if known and NAME not in REGISTRY:
            REGISTRY.register(NAME, experts_of_rows)
        _ASKS.keep(experts, known)
    return known


def experts_of_rows(
    experts: Any,
    hidden: Float[torch.Tensor, "rows d_model"],
    index: Int[torch.Tensor, "rows slots"],
    weight: Float[torch.Tensor, "rows slots"],
) -> Float[torch.Tensor, "rows d_model"]:
    """The weighted sum of each row's experts, `together` or `one_by_one`, whichever suits their size and the rows.

    transformers' grouped product where neither does: few rows of large experts, gradients, half precision, a GPU.
    """
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    grouped, down = ALL_EXPERTS_FUNCTIONS[OF], experts.down_proj
    if (
        not (hidden.device.type == "cpu" and hidden.dtype == down.dtype == torch.float32)
        or index.numel() == 0
        or torch.is_grad_enabled()
        or getattr(experts, "_is_expert_parallel", False)  # from transformers 5.7 or so on
    ):
        return grouped(experts, hidden, index, weight)
    small = _small(experts)
    if not small and index.numel() < LEAST * experts.num_experts:
        return grouped(experts, hidden, index, weight)
    if _FITS.of(experts) is None:
        _FITS.keep(experts, _fits(experts, grouped, hidden.shape[1], index.shape[1]))
    mine = together if small and index.numel() <= MANY else one_by_one
    return (mine if _FITS.of(experts) else grouped)(experts, hidden, index, weight)


def _fits(experts: Any, grouped: Any, width: int, slots: int) -> bool:
    """Whether both ways give what transformers' function gives, on rows of our own, whatever comes first."""
    seeded = torch.Generator().manual_seed(0)
    hidden = torch.randn(_LOOKED_AT, width, generator=seeded)
    index = torch.randint(experts.num_experts, (_LOOKED_AT, slots), generator=seeded)
    given = hidden, index, 0.5 + torch.rand(index.shape, generator=seeded)
    wanted = grouped(experts, *given)
    allowed = rounding(wanted).output * wanted.abs().max()
    ways = (together, one_by_one) if _small(experts) else (one_by_one,)
    return all(bool((way(experts, *given) - wanted).abs().max() <= allowed) for way in ways)


def _small(experts: Any) -> bool:
    """Whether experts go `together`: small ones without a bias."""
    if experts.has_bias or not _BY_NAME:
        return False
    return 4 * sum(each[0].numel() for each in _stacked(experts)) <= SMALL


def together(
    experts: Any,
    hidden: Float[torch.Tensor, "rows d_model"],
    index: Int[torch.Tensor, "rows slots"],
    weight: Float[torch.Tensor, "rows slots"],
) -> Float[torch.Tensor, "rows d_model"]:
    """As `experts_of_rows`, all experts in one grouped product, weighted and summed over slots in one pass."""
    first, down = _stacked(experts)
    expert, order = index.reshape(-1).sort(stable=True)
    counts = torch.bincount(expert, minlength=experts.num_experts)
    if len(counts) > experts.num_experts:  # slots of no expert
        return one_by_one(experts, hidden, index, weight)
    ends = counts.cumsum(0, dtype=torch.int32)
    x = hidden.index_select(0, order.div(index.shape[1], rounding_mode="floor"))
    x = functional.grouped_mm(x, first, offs=ends)
    x = experts._apply_gate(x) if experts.has_gate else experts.act_fn(x)  # noqa: SLF001
    x = functional.grouped_mm(x, down, offs=ends)
    if getattr(experts, "has_post_expert_norm", False):
        x = experts.post_expert_norm(x)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return functional.embedding_bag(
        place.view(index.shape), x, mode="sum", per_sample_weights=weight.to(x.dtype)
    )


def one_by_one(
    experts: Any,
    hidden: Float[torch.Tensor, "rows d_model"],
    index: Int[torch.Tensor, "rows slots"],
    weight: Float[torch.Tensor, "rows slots"],
) -> Float[torch.Tensor, "rows d_model"]:
    """As `experts_of_rows`, one expert after the other. Slots of no expert (index = how many there are) add nothing."""
    expert, order = index.reshape(-1).sort(stable=True)
    counts = torch.bincount(expert, minlength=experts.num_experts).tolist()
    rows = (order // index.shape[1]).split(counts)
    weights = weight.reshape(-1, 1).index_select(0, order).split(counts)
    up, down = (each.unbind() for each in _stacked(experts))
    act = experts._apply_gate if experts.has_gate else experts.act_fn  # noqa: SLF001
    bias: Any = (None, None)
    if experts.has_bias:
        bias = (
            experts.gate_up_proj_bias if experts.has_gate else experts.up_proj_bias,
            experts.down_proj_bias,
        )
    widths = (*up[0].shape, down[0].shape[1])
    given, inner, last = (hidden.new_empty(max(counts), width) for width in widths)
    out = torch.zeros_like(hidden)
    for e in range(experts.num_experts):
        n = counts[e]
        if n == 0:
            continue
        x = torch.index_select(hidden, 0, rows[e], out=given[:n])
        x = torch.mm(x, up[e], out=inner[:n])
        x = act(x if bias[0] is None else x.add_(bias[0][e]))
        x = torch.mm(x, down[e], out=last[:n])
        if bias[1] is not None:
            x = x.add_(bias[1][e])
        if getattr(experts, "has_post_expert_norm", False):
            x = experts.post_expert_norm(x)
        out.index_add_(0, rows[e], x.mul_(weights[e]))
    return out


def _stacked(
    experts: Any,
) -> tuple[
    Float[torch.Tensor, "experts d_model inner"], Float[torch.Tensor, "experts width d_model"]
]:
    """The first and the last matrices of all experts as rows are multiplied by them."""
    first = experts.gate_up_proj if experts.has_gate else experts.up_proj
    if experts.is_transposed:
        return first, experts.down_proj
    return first.transpose(1, 2), experts.down_proj.transpose(1, 2)
