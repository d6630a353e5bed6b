"""Attention for counterfactual rows: clean keys and values below, the row's own at its position.

transformers hands every attention function the query, key and value after projection, norms,
RoPE and latent expansion, so nothing here knows an architecture.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .rows import CleanKeys, attend_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

NAME = "moeaudit_rows"
# Keywords whose meaning is honoured below, and keywords that carry no arithmetic.
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


@dataclass
class RowState:
    """Shared between the wavefront and the attention function while a walk runs."""

    tokens: int
    clean: dict[int, CleanKeys] = field(default_factory=dict)
    # Places of the rows now passing through a layer, (positions, steps), and how many rows stand
    # at each position; None while the clean tokens pass.
    at: torch.Tensor | None = None
    rows: int = 0
    idle: bool = False
    # By identity of the mask; the mask itself is kept so that its identity stays taken.
    masks: dict[int, tuple[torch.Tensor | None, torch.Tensor]] = field(default_factory=dict)
    original: dict[int, str] = field(default_factory=dict)


_ACTIVE: list[RowState] = []


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The function registered with transformers: the model's own for clean tokens, ours for rows."""
    if not _ACTIVE:
        raise RuntimeError("the attention function 'moeaudit_rows' was called outside of a walk")
    state = _ACTIVE[-1]
    if state.at is not None:
        return _for_rows(state, module, query, key, value, kwargs), None
    if not state.idle:
        _remember(state, module, query, key, value, attention_mask, kwargs)
    return _own(state, module)(module, query, key, value, attention_mask, **kwargs)


def _own(state: RowState, module: nn.Module) -> Callable[..., Any]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = state.original.get(id(module.config), "eager")
    if name not in ("eager", "sdpa"):
        name = "sdpa"  # flash and flex kernels take masks of another kind
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)  # type: ignore[arg-type]


def _remember(
    state: RowState,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
) -> None:
    where = type(module).__name__
    unknown = sorted(set(kwargs) - _HONOURED - _INERT)
    if unknown:
        raise RowsDoNotHold(f"{where} passes '{unknown[0]}' to its attention function")
    if query.shape[0] != 1 or query.shape[2] != state.tokens or key.shape[2] != state.tokens:
        raise RowsDoNotHold(
            f"{where} attends from {query.shape[2]} queries to {key.shape[2]} keys in a document of "
            f"{state.tokens} tokens"
        )
    if id(module) in state.clean:
        raise RowsDoNotHold(f"{where} attends twice in one layer")
    state.clean[id(module)] = CleanKeys(key[0], value[0], _checked_mask(state, where, mask, query))


def _checked_mask(
    state: RowState, where: str, mask: torch.Tensor | None, query: torch.Tensor
) -> torch.Tensor:
    slot = id(mask)
    if slot in state.masks:
        return state.masks[slot][1]
    tokens = state.tokens
    if mask is None:
        full = torch.full((1, tokens, tokens), torch.finfo(query.dtype).min, device=query.device)
        additive = full.to(query.dtype).triu(1)
    elif mask.dim() != 4 or tuple(mask.shape[-2:]) != (tokens, tokens) or mask.shape[0] != 1:
        raise RowsDoNotHold(f"{where} uses an attention mask of shape {tuple(mask.shape)}")
    elif mask.dtype == torch.bool:
        low = torch.finfo(query.dtype).min
        additive = torch.where(mask[0], 0.0, low).to(query.dtype)
    else:
        additive = mask[0].to(query.dtype)
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=additive.device).triu(1)
    if bool((additive[:, later] > -1e4).any()):
        raise RowsDoNotHold(f"{where} attends to later tokens")
    if bool((additive.diagonal(dim1=-2, dim2=-1) != 0).any()):
        raise RowsDoNotHold(f"{where} does not attend to the token itself")
    state.masks[slot] = (mask, additive)
    return additive


def _for_rows(
    state: RowState,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kwargs: dict[str, Any],
) -> torch.Tensor:
    clean = state.clean.get(id(module))
    if clean is None or state.at is None:
        raise RowsDoNotHold(
            f"{type(module).__name__} attended for a row but not for the clean tokens"
        )
    return attend_rows(clean, state.at, state.rows, query, key, value, kwargs)


@contextmanager
def row_attention(model: nn.Module, tokens: int) -> Iterator[RowState]:
    """Route the model's attention through `attend` for the duration of a walk, then restore it."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
    state = RowState(tokens)
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    configs = {key: c for key, c in configs.items() if hasattr(c, "_attn_implementation_internal")}
    for key, config in configs.items():
        state.original[key] = config._attn_implementation_internal  # noqa: SLF001
        config._attn_implementation_internal = NAME  # noqa: SLF001
    _ACTIVE.append(state)
    try:
        yield state
    finally:
        _ACTIVE.pop()
        for key, config in configs.items():
            config._attn_implementation_internal = state.original[key]  # noqa: SLF001
