"""Attention functions of ours in the place of the model's own, through transformers' registry.

What both of them need stands here: which keywords they may be handed, the mask as numbers, and the
swap in the model's configurations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

# Functions are registered for the whole process and find what they work on there, so whoever swaps
# attention takes this turn, inside `evaluating`, the turn with the model.
ATTENTION_TURN = threading.RLock()

# Keywords with a meaning in our functions or in the mask, and keywords that carry no arithmetic.
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


class RowsDoNotHold(Exception):
    """This model mixes tokens in a way that a lone row cannot follow; the message says how."""


def require_known(module: nn.Module, kwargs: dict[str, Any]) -> None:
    """Raise RowsDoNotHold for a keyword whose meaning is not known here."""
    unknown = sorted(set(kwargs) - _HONOURED - _INERT)
    if unknown:
        raise RowsDoNotHold(
            f"{type(module).__name__} passes '{unknown[0]}' to its attention function"
        )


def causal_mask(module: nn.Module, mask: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor:
    """The mask as what is added to scores, (1 or heads, tokens, tokens), of the query's dtype.

    Raises RowsDoNotHold for masks of another shape and for those that let a token see later ones.
    """
    where, tokens = type(module).__name__, query.shape[2]
    low = torch.finfo(query.dtype).min
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
    if mask is None:
        return query.new_zeros(1, tokens, tokens).masked_fill(later, low)
    if mask.dim() != 4 or mask.shape[0] != 1 or tuple(mask.shape[-2:]) != (tokens, tokens):
        raise RowsDoNotHold(f"{where} uses an attention mask of shape {tuple(mask.shape)}")
    if mask.dtype == torch.bool:
        full = query.new_zeros(mask[0].shape).masked_fill(~mask[0], low)
    else:
        full = mask[0].to(query.dtype)
    if bool((full[:, later] > -1e4).any()):
        raise RowsDoNotHold(f"{where} attends to later tokens")
    return full


@contextmanager
def attention_replaced(
    model: nn.Module, name: str, function: Callable[..., Any]
) -> Iterator[dict[int, str]]:
    """Inside, the model's attention is `function`, registered under `name`; put back after.

    Yields which implementation each configuration named before, by its identity.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if name not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(name, function)
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, eager_mask)
    kept = "_attn_implementation_internal"
    configs = {id(c): c for m in model.modules() if hasattr(c := getattr(m, "config", None), kept)}
    before = {key: getattr(config, kept) for key, config in configs.items()}
    try:
        for config in configs.values():
            setattr(config, kept, name)
        yield before
    finally:
        for key, config in configs.items():
            setattr(config, kept, before[key])
