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

from .registry import RowsDoNotHold as RowsDoNotHold
from .registry import attention_replaced, causal_mask, require_known
from .rows import SCORES, CleanKeys, attend_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

NAME = "moeaudit_rows"


@dataclass
class RowState:
    """Shared between the wavefront and the attention function while a walk runs."""

    tokens: int
    scores: int = SCORES  # attention scores of rows held at once
    clean: dict[int, CleanKeys] = field(default_factory=dict)
    # Places of the rows now passing through a layer, (positions, steps), those of their edits as
    # plain numbers, and how many rows stand at each position; None while the clean tokens pass.
    at: torch.Tensor | None = None
    edited: Sequence[int] = ()
    rows: int = 0
    idle: bool = False
    # By identity of the mask; the mask itself is kept so that its identity stays taken.
    masks: dict[int, tuple[torch.Tensor | None, torch.Tensor, bool]] = field(default_factory=dict)
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
    require_known(module, kwargs)
    if query.shape[0] != 1 or query.shape[2] != state.tokens or key.shape[2] != state.tokens:
        raise RowsDoNotHold(
            f"{where} attends from {query.shape[2]} queries to {key.shape[2]} keys in a document of "
            f"{state.tokens} tokens"
        )
    if id(module) in state.clean:
        raise RowsDoNotHold(f"{where} attends twice in one layer")
    seen = _checked_mask(state, module, mask, query)
    state.clean[id(module)] = CleanKeys(key[0], value[0], *seen)


def _checked_mask(
    state: RowState, module: nn.Module, mask: torch.Tensor | None, query: torch.Tensor
) -> tuple[torch.Tensor, bool]:
    """The additive mask, and whether it is causal and nothing besides."""
    slot = id(mask)
    if slot not in state.masks:
        additive = causal_mask(module, mask, query)
        hidden = (additive.diagonal(dim1=-2, dim2=-1) != 0).any()
        before = (additive.tril() != 0).any()
        itself, window = torch.stack([hidden, before]).tolist()
        if itself:
            raise RowsDoNotHold(f"{type(module).__name__} does not attend to the token itself")
        state.masks[slot] = (mask, additive, not window)
    return state.masks[slot][1:]


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
    rows = (
        state.at.to(query.device),
        state.edited,
        state.rows,
    )  # layers may be spread over devices
    return attend_rows(clean, *rows, query, key, value, kwargs, state.scores)


@contextmanager
def row_attention(model: nn.Module, tokens: int, scores: int = SCORES) -> Iterator[RowState]:
    """Route the model's attention through `attend` for the duration of a walk, then restore it."""
    with rows_attend(model) as original, active(RowState(tokens, scores, original=original)) as one:
        yield one


@contextmanager
def rows_attend(model: nn.Module) -> Iterator[dict[int, str]]:
    """The same for a walk over several documents, which each have a state that is `active` in turn."""
    with attention_replaced(model, NAME, attend) as original:
        yield original


@contextmanager
def active(state: RowState) -> Iterator[RowState]:
    """Inside, attention is that of this state's document."""
    _ACTIVE.append(state)
    try:
        yield state
    finally:
        _ACTIVE.pop()
