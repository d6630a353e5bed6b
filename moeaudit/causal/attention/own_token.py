"""Attention through which gradients reach a token by its own path only.

The prediction at position t depends on earlier tokens through their keys and values. Hold those
fixed in the backward pass (detach them, except the token's own) and every loss sees only its own
token's residual: one backward pass of the summed losses then gives, at every position, the
gradient of that position's loss alone. The forward pass is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from moeaudit.models.precision import full

from .registry import RowsDoNotHold, attention_replaced, causal_mask, require_known

if TYPE_CHECKING:
    from torch import nn

NAME = "moeaudit_own_token"


def attend(
    module: nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, d_key)
    key: torch.Tensor,  # (1, kv_heads, tokens, d_key)
    value: torch.Tensor,  # (1, kv_heads, tokens, d_value)
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Eager attention whose earlier keys and values are constants to the backward pass."""
    where, tokens = type(module).__name__, query.shape[2]
    require_known(module, kwargs)
    if query.shape[0] != 1 or key.shape[2] != tokens:
        raise RowsDoNotHold(f"{where} attends from {tokens} queries to {key.shape[2]} keys")
    mask = causal_mask(module, attention_mask, query)  # (1 or heads, tokens, tokens)
    kv_heads = key.shape[1]
    shape = (kv_heads, query.shape[1] // kv_heads)
    q = query[0].unflatten(0, shape)  # (kv_heads, groups, tokens, d_key)
    k, v = key[0][:, None], value[0][:, None]  # (kv_heads, 1, tokens, d)
    scaling = kwargs.get("scaling")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = q @ k.detach().transpose(-1, -2) * scaling  # (kv_heads, groups, tokens, tokens)
    own = (q * k).sum(-1) * scaling
    diagonal = torch.eye(tokens, dtype=torch.bool, device=q.device)
    scores = torch.where(diagonal, own[..., None], scores)
    softcap = kwargs.get("softcap")
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + (mask if mask.shape[0] == 1 else mask.unflatten(0, shape))
    sinks = kwargs.get("s_aux")
    if sinks is not None:
        sink = sinks.reshape(*shape, 1, 1).expand(*shape, tokens, 1)
        scores = torch.cat([scores, sink.to(scores.dtype)], -1)
    probability = torch.softmax(full(scores), -1).to(v.dtype)[..., :tokens]
    mine = probability.diagonal(dim1=-2, dim2=-1)[..., None]
    mixed = probability @ v.detach() + mine * (v - v.detach())
    return mixed.flatten(0, 1).transpose(0, 1)[None].contiguous(), None


@contextmanager
def own_token_attention(model: nn.Module) -> Iterator[None]:
    """Route the model's attention through `attend` inside, and restore it after."""
    with attention_replaced(model, NAME, attend):
        yield
