"""Training kernels for small MoEs on a CPU: routed experts, causal attention, head with loss.

transformers' own implementations are written for large tensors on an accelerator. At hidden size
128 on one core, most of their time goes into traffic through memory, so the three hottest pieces
are done here block by block with a hand-written backward. They are used in training only; every
evaluation runs the stock implementations, and the tests hold the two against each other.

Matrix products run in bfloat16 under `torch.autocast` and in the tensors' own type otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.moe import ExpertsInterface

EXPERTS = "moeaudit_training_experts"
ATTENTION = "moeaudit_training_attention"
_HEADS_PER_BLOCK = 8  # their scores of 256 x 256 stay in cache
_ROWS_OF_EXPERT = 64
_ROWS_PER_BLOCK = 512  # 512 rows of 2,048 logits stay in cache


def _compute_dtype(tensor: Tensor) -> torch.dtype:
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
        dtype, (tokens, top_k), half = _compute_dtype(x), index.shape, w_in.shape[1] // 2
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


class _CausalAttention(torch.autograd.Function):
    """softmax(q k^T scale + causal mask) v, a few heads at a time."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        dtype, length = _compute_dtype(q), q.shape[1]
        q, k, v = (q * scale).to(dtype), k.to(dtype), v.to(dtype)  # (B*heads, T, D)
        mask = q.new_full((1, length, length), float("-inf")).triu_(1)
        out = torch.empty_like(v)
        probability = q.new_empty(len(q), length, length)
        for i in range(0, len(q), _HEADS_PER_BLOCK):
            s = slice(i, i + _HEADS_PER_BLOCK)
            probability[s] = torch.baddbmm(mask, q[s], k[s].mT).softmax(-1)
            out[s] = torch.bmm(probability[s], v[s])
        ctx.save_for_backward(q, k, v, probability)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, probability = ctx.saved_tensors
        grad = grads[0].to(q.dtype)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for i in range(0, len(q), _HEADS_PER_BLOCK):
            s = slice(i, i + _HEADS_PER_BLOCK)
            p = probability[s]
            grad_v[s] = torch.bmm(p.mT, grad[s])
            grad_p = torch.bmm(grad[s], v[s].mT)
            grad_score = torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype)
            grad_q[s] = torch.bmm(grad_score, k[s])
            grad_k[s] = torch.bmm(grad_score.mT, q[s])
        return grad_q.mul_(ctx.scale), grad_k, grad_v, None


def training_attention(
    module: torch.nn.Module,  # noqa: ARG001
    query: Float[Tensor, "batch heads length qk_width"],
    key: Float[Tensor, "batch heads length qk_width"],
    value: Float[Tensor, "batch heads length v_width"],
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Float[Tensor, "batch length heads v_width"], None]:
    """Causal attention over unpadded rows: no other mask, no dropout, as many keys as queries."""
    if attention_mask is not None or dropout:
        raise ValueError("training attention takes neither an attention mask nor dropout")
    batch, heads, length, _width = query.shape
    out = _CausalAttention.apply(
        query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), scaling
    )
    return out.view(batch, heads, length, -1).transpose(1, 2), None  # type: ignore[union-attr]


class _RootMeanSquare(torch.autograd.Function):
    """weight * x / sqrt(mean(x^2) + eps) over the last axis, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.float()
        width = x.shape[-1]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(width).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, scale, weight = ctx.saved_tensors
        product = grads[0] * unit
        flat = product.view(-1, len(weight))
        along = (flat @ weight).view_as(scale).div_(len(weight))
        # the sum over tokens as a product with ones: fast in either memory order
        grad_weight = flat.new_ones(len(flat)) @ flat
        grad_x = (grads[0] * weight).addcmul_(unit, along, value=-1).mul_(scale)
        return grad_x, grad_weight, None


def norm_forward(norm: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """A replacement for the forward of a RMSNorm module of transformers."""
    weight, eps = norm.weight, norm.variance_epsilon
    return lambda x: _RootMeanSquare.apply(x, weight, eps)  # type: ignore[no-any-return]


class _HeadLoss(torch.autograd.Function):
    """Mean cross entropy of `hidden @ head.T`, the gradient made in the same pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, target: Tensor) -> Tensor:
        dtype = _compute_dtype(hidden)
        low, weight = hidden.to(dtype), head.to(dtype)
        grad_hidden = torch.empty_like(low)
        grad_head = torch.zeros_like(head)
        total = hidden.new_zeros((), dtype=torch.float32)
        for i in range(0, len(low), _ROWS_PER_BLOCK):
            s = slice(i, i + _ROWS_PER_BLOCK)
            log_p = (low[s] @ weight.T).float().log_softmax(-1)  # (R, V)
            total -= log_p.gather(1, target[s, None]).sum()
            grad = log_p.exp_()
            grad[torch.arange(len(grad)), target[s]] -= 1.0
            grad = grad.to(dtype)
            grad_hidden[s] = grad @ weight
            grad_head += grad.T @ low[s]
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_head)
        ctx.count = len(low)
        return total / len(low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return grad_hidden * scale, grad_head * scale, None


def head_loss(
    hidden: Float[Tensor, "tokens width"],
    head: Float[Tensor, "vocabulary width"],
    target: Int[Tensor, " tokens"],
) -> Float[Tensor, ""]:
    """Mean negative log likelihood in nats per token."""
    return _HeadLoss.apply(hidden, head, target)  # type: ignore[no-any-return]


def register() -> None:
    """Make both kernels available to transformers under `EXPERTS` and `ATTENTION`."""
    ExpertsInterface.register(EXPERTS, training_experts)
    AttentionInterface.register(ATTENTION, training_attention)
