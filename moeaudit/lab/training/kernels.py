"""Training kernels for small MoEs on a CPU: causal attention, norm, head with loss.

transformers' own implementations are written for large tensors on an accelerator. At hidden size
128 on one core, most of their time goes into traffic through memory, so the hottest pieces
are done here and in `experts` block by block with a hand-written backward. They are used in training only; every
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

from .experts import compute_dtype, training_experts

EXPERTS = "moeaudit_training_experts"
ATTENTION = "moeaudit_training_attention"
_HEADS_PER_BLOCK = 8  # their scores of 256 x 256 stay in cache
_ROWS_PER_BLOCK = 512  # 512 rows of 2,048 logits stay in cache


class _CausalAttention(torch.autograd.Function):
    """softmax(q k^T scale + causal mask) v, a few heads at a time."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        dtype, length = compute_dtype(q), q.shape[1]
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
        dtype = compute_dtype(hidden)
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
