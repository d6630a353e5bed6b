"""From the last decoder layer's output to logits, by the model's own code.

The model's forward is run with its decoder layers standing aside and the rows put in the place of
the last one's output. Final norms, heads, scalings and soft caps then need not be known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn

from moeaudit.models import Model

_TOKENS = 8  # rows stand as short documents, so no position is ever out of range


@torch.no_grad()
def tail_logits(
    model: Model,
    hidden: Float[torch.Tensor, "rows ..."],
    filler_id: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
) -> Float[torch.Tensor, "rows vocab"]:
    """Logits of rows that have passed the last decoder layer.

    `filler_id` is any valid token id (its embedding is thrown away); `tuple_tail` is what the
    decoder layers return after the hidden state, None for layers that return it alone.
    """
    rows = _as_documents(hidden)
    logits = last_logits(model, rows, filler_id.expand(rows.shape[:2]), tuple_tail)
    return logits.reshape(rows.shape[0] * _TOKENS, -1)[: len(hidden)]


@torch.no_grad()
def before_head(
    model: Model,
    head: nn.Module,
    hidden: Float[torch.Tensor, "rows ..."],
    filler_id: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
) -> Float[torch.Tensor, "rows d_model"]:
    """What the module `head` is given for rows that have passed the last decoder layer; it does not run.

    Arguments as those of `tail_logits`.
    """
    rows, given = _as_documents(hidden), []

    def note(x: torch.Tensor, *_: Any, **__: Any) -> Any:
        given.append(x)
        raise _AllSeen

    with another_forward(head, note), suppress(_AllSeen):
        last_logits(model, rows, filler_id.expand(rows.shape[:2]), tuple_tail)
    return given[0].reshape(rows.shape[0] * _TOKENS, -1)[: len(hidden)]


def _as_documents(hidden: torch.Tensor) -> torch.Tensor:
    """Rows as short documents, `"documents tokens ..."`, filled up with zeros."""
    documents = -(-len(hidden) // _TOKENS)
    if documents * _TOKENS == len(hidden):
        return hidden.reshape(documents, _TOKENS, *hidden.shape[1:])
    padded = hidden.new_zeros(documents * _TOKENS, *hidden.shape[1:])
    padded[: len(hidden)] = hidden
    return padded.view(documents, _TOKENS, *hidden.shape[1:])


@torch.no_grad()
def last_logits(
    model: Model,
    hidden: Float[torch.Tensor, "documents tokens ..."],
    ids: Int[torch.Tensor, "documents tokens"],
    tuple_tail: tuple[Any, ...] | None,
) -> Float[torch.Tensor, "documents tokens vocab"]:
    """Logits of documents whose tokens have passed the last decoder layer, as `tail_logits`."""
    layers = model.anatomy.decoder_layers

    def returned(value: torch.Tensor) -> Any:
        return value if tuple_tail is None else (value, *tuple_tail)

    def stand_aside(*args: Any, **kwargs: Any) -> Any:
        return returned(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as stack:
        for layer in layers:
            _replace_forward(stack, layer, stand_aside)
        _replace_forward(stack, layers[-1], lambda *_, **__: returned(hidden))
        return model.hf(input_ids=ids, use_cache=False).logits


@torch.no_grad()
def layer_arguments(
    model: Model, ids: Int[torch.Tensor, "1 tokens"]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the model's own forward calls each decoder layer with when all of them stand aside.

    The hidden state among the arguments is the first layer's, for all of them.
    """
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    layers = model.anatomy.decoder_layers

    def note(*args: Any, **kwargs: Any) -> Any:
        given.append((args, kwargs))
        if len(given) == len(layers):
            raise _AllSeen
        return args[0] if args else kwargs["hidden_states"]

    with ExitStack() as stack:
        for layer in layers:
            _replace_forward(stack, layer, note)
        with suppress(_AllSeen):
            model.hf(input_ids=ids, use_cache=False)
    return given


class _AllSeen(Exception):
    """What was looked for is known; what comes after it need not run."""


def _replace_forward(stack: ExitStack, module: nn.Module, forward: Any) -> None:
    """Another forward, without the module's hooks: what they do (bring weights, say) is the layer's."""
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        stack.callback(setattr, module, hooks, getattr(module, hooks))
        setattr(module, hooks, OrderedDict())
    stack.enter_context(another_forward(module, forward))


@contextmanager
def another_forward(module: nn.Module, forward: Any) -> Iterator[None]:
    """Inside, the module runs `forward` between its own hooks."""
    had = module.__dict__.get("forward")  # set by offloading hooks, absent otherwise
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if had is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = had
