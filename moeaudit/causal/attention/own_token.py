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

from .reroute import RowsDoNotHold

if TYPE_CHECKING:
    from torch import nn

NAME = "moeaudit_own_token"
# Keywords with a meaning here or in the mask, and keywords that carry no arithmetic.
_HONOURED = {"scaling", "sliding_window", "softcap", "s_aux", "is_causal", "dropout"}
_INERT = {
    "position_ids",
    "cache_position",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "return_dict",
    "logits_to_keep",
    "num_items_in_batch",
    "past_key_values",
    "position_embeddings",
}


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
    unknown = sorted(set(kwargs) - _HONOURED - _INERT)
    if unknown:
        raise RowsDoNotHold(f"{where} passes '{unknown[0]}' to its attention function")
    if query.shape[0] != 1 or key.shape[2] != tokens:
        raise RowsDoNotHold(f"{where} attends from {tokens} queries to {key.shape[2]} keys")
    mask = _additive(where, attention_mask, query)  # (1 or heads, tokens, tokens)
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
    probability = torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype)[..., :tokens]
    mine = probability.diagonal(dim1=-2, dim2=-1)[..., None]
    mixed = probability @ v.detach() + mine * (v - v.detach())
    return mixed.flatten(0, 1).transpose(0, 1)[None].contiguous(), None


def _additive(where: str, mask: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor:
    tokens = query.shape[2]
    low = torch.finfo(query.dtype).min
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
    if mask is None:
        return torch.zeros(1, tokens, tokens, dtype=query.dtype, device=query.device).masked_fill(
            later, low
        )
    if mask.dim() != 4 or mask.shape[0] != 1 or tuple(mask.shape[-2:]) != (tokens, tokens):
        raise RowsDoNotHold(f"{where} uses an attention mask of shape {tuple(mask.shape)}")
    full = torch.where(mask[0], 0.0, low) if mask.dtype == torch.bool else mask[0]
    if bool((full[:, later] > -1e4).any()):
        raise RowsDoNotHold(f"{where} attends to later tokens")
    return full.to(query.dtype)


@contextmanager
def own_token_attention(model: nn.Module) -> Iterator[None]:
    """Route the model's attention through `attend` inside, and restore it after."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    configs = {key: c for key, c in configs.items() if hasattr(c, "_attn_implementation_internal")}
    before = {key: c._attn_implementation_internal for key, c in configs.items()}  # noqa: SLF001
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME  # noqa: SLF001
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]  # noqa: SLF001
