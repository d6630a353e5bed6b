"""The training kernel for routed experts; why it exists is told in `kernels`."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROWS_OF_EXPERT = 64


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The type matrix products run in: that of autocast, else the tensor's own."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return tensor.dtype


class _Experts(torch.autograd.Function):
    """sum over slots of weight * W_down (silu(W_gate x) * W_up x), rows grouped by expert.

    Each expert's rows are padded with zero rows to a multiple of `_ROWS_OF_EXPERT`: the library
    compiles a kernel for every matrix shape it meets, so shapes have to recur. The weight is
    applied before the down projection, where rows are narrow.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, index: Tensor, weight: Tensor, w_in: Tensor, w_out: Tensor
    ) -> Tensor:
        dtype, (tokens, top_k), half = compute_dtype(x), index.shape, w_in.shape[1] // 2
        slot_expert = index.reshape(-1)
        order = slot_expert.argsort(stable=True)  # (S,) slots grouped by expert
        count = torch.bincount(slot_expert, minlength=w_in.shape[0])
        padded = (count + _ROWS_OF_EXPERT - 1) // _ROWS_OF_EXPERT * _ROWS_OF_EXPERT
        shift = (padded.cumsum(0) - padded) - (count.cumsum(0) - count)
        row = torch.arange(len(order)) + shift[slot_expert[order]]  # (S,) row of a sorted slot
        stops, rows = padded.cumsum(0).tolist(), int(padded.sum())
        # (R,) token of each row; the zero row appended to x stands behind the padding
        token = torch.full((rows,), tokens).index_copy_(0, row, order // top_k)
        row_weight = weight.new_zeros(rows).index_copy_(0, row, weight.reshape(-1)[order])
        place = torch.empty_like(order).index_copy_(0, order, row).view(tokens, top_k)
        w_in, w_out = w_in.to(dtype), w_out.to(dtype)
        x_in = _with_zero_row(x.to(dtype)).index_select(0, token)  # (R, H)
        both = x_in.new_empty(rows, 2 * half)  # (R, 2I) gate and up
        for e, s in _slices(stops):
            torch.mm(x_in[s], w_in[e].T, out=both[s])
        gate, up = both[:, :half].contiguous(), both[:, half:].contiguous()
        row_weight = row_weight.to(dtype).unsqueeze(-1)
        inner = torch.nn.functional.silu(gate).mul_(up)  # (R, I)
        weighted = inner * row_weight
        row_out = torch.empty_like(x_in)  # (R, H)
        for e, s in _slices(stops):
            torch.mm(weighted[s], w_out[e].T, out=row_out[s])
        ctx.save_for_backward(
            x_in, token, place, row_weight, w_in, w_out, gate, up, inner, weighted
        )
        ctx.stops, ctx.dtypes = stops, (x.dtype, weight.dtype)
        return _sum_of_slots(row_out, place).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_in, token, place, row_weight, w_in, w_out, gate, up, inner, weighted = ctx.saved_tensors
        silu, half = torch.nn.functional.silu, gate.shape[1]
        grad_out = _with_zero_row(grads[0].to(x_in.dtype)).index_select(0, token)  # (R, H)
        grad_inner = torch.empty_like(inner)
        grad_w_in, grad_w_out = torch.zeros_like(w_in), torch.zeros_like(w_out)
        for e, s in _slices(ctx.stops):
            torch.mm(grad_out[s], w_out[e], out=grad_inner[s])
            torch.mm(grad_out[s].T, weighted[s], out=grad_w_out[e])
        row_grad = (grad_inner * inner) @ inner.new_ones(half)  # (R,)
        grad_weight = row_grad[place]
        grad_inner.mul_(row_weight)
        grad_both = x_in.new_empty(len(x_in), 2 * half)
        grad_both[:, half:] = silu(gate).mul_(grad_inner)
        grad_both[:, :half] = torch.ops.aten.silu_backward(grad_inner.mul_(up), gate)
        grad_in = torch.empty_like(x_in)
        for e, s in _slices(ctx.stops):
            torch.mm(grad_both[s], w_in[e], out=grad_in[s])
            torch.mm(grad_both[s].T, x_in[s], out=grad_w_in[e])
        x_dtype, weight_dtype = ctx.dtypes
        grad_x = _sum_of_slots(grad_in, place).to(x_dtype)
        # the weights are parameters in float32; autograd wants their gradients in that type
        return grad_x, None, grad_weight.to(weight_dtype), grad_w_in.float(), grad_w_out.float()


def _slices(stops: list[int]) -> list[tuple[int, slice]]:
    """(expert, its rows), for experts that have rows."""
    starts = [0, *stops]
    return [(e, slice(a, b)) for e, (a, b) in enumerate(zip(starts, stops)) if a < b]


def _with_zero_row(x: Tensor) -> Tensor:
    return torch.cat((x, x.new_zeros(1, x.shape[1])))


def _sum_of_slots(rows: Tensor, place: Tensor) -> Tensor:
    """(R, H), (T, k) -> (T, H): for each token the sum of the rows of its slots."""
    out = rows.index_select(0, place[:, 0])
    for slot in range(1, place.shape[1]):
        out += rows.index_select(0, place[:, slot])
    return out


def training_experts(
    self: torch.nn.Module,
    hidden_states: Float[Tensor, "tokens width"],
    top_k_index: Int[Tensor, "tokens top_k"],
    top_k_weights: Float[Tensor, "tokens top_k"],
) -> Float[Tensor, "tokens width"]:
    """The experts call of the router contract, for gated SiLU experts without bias."""
    return _Experts.apply(  # type: ignore[no-any-return]
        hidden_states, top_k_index, top_k_weights, self.gate_up_proj, self.down_proj
    )
