"""A model's own forward while its decoder layers stand aside: what they are called with, and what comes after them.

Other hidden states stand in the place of what the last one returns, so that final norms, heads, scalings and soft caps
need not be known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import nn

if TYPE_CHECKING:
    from ..model import Model


@torch.no_grad()
def head_of(
    model: Model,
    hidden: Float[torch.Tensor, "rows ..."],
    filler: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
    *,
    tokens: int,
) -> Float[torch.Tensor, "rows vocab"]:
    """Logits of rows that have passed the last decoder layer; no layer runs, and none is brought.

    Rows stand as short documents of `tokens` tokens. `filler` is any valid token id (its embedding is thrown
    away); `tuple_tail` is what the layers return after the hidden state, None for layers that return it alone.
    """
    rows = as_documents(hidden, tokens)
    logits = last_logits(model, rows, filler.expand(rows.shape[:2]), tuple_tail)
    return logits.flatten(0, 1)[: len(hidden)]


def as_documents(
    hidden: Float[torch.Tensor, "rows ..."], tokens: int
) -> Float[torch.Tensor, "documents tokens ..."]:
    """Rows as documents of so many tokens, the last one filled up with zeros."""
    documents = -(-len(hidden) // tokens)
    if documents * tokens == len(hidden):
        return hidden.reshape(documents, tokens, *hidden.shape[1:])
    padded = hidden.new_zeros(documents * tokens, *hidden.shape[1:])
    padded[: len(hidden)] = hidden
    return padded.view(documents, tokens, *hidden.shape[1:])


@torch.no_grad()
def last_logits(
    model: Model,
    hidden: Float[torch.Tensor, "documents tokens ..."],
    ids: Int[torch.Tensor, "documents tokens"],
    tuple_tail: tuple[Any, ...] | None,
) -> Float[torch.Tensor, "documents tokens vocab"]:
    """Logits of documents whose tokens have passed the last decoder layer, as `head_of`."""
    layers = model.anatomy.decoder_layers

    def returned(value: torch.Tensor) -> Any:
        return value if tuple_tail is None else (value, *tuple_tail)

    def stand_aside(*args: Any, **kwargs: Any) -> Any:
        return returned(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as stack:
        for layer in layers:
            replace_forward(stack, layer, stand_aside)
        replace_forward(stack, layers[-1], lambda *_, **__: returned(hidden))
        return model.hf(input_ids=ids, use_cache=False).logits


def replace_forward(stack: ExitStack, module: nn.Module, forward: Any) -> None:
    """Another forward, without the module's hooks: what they do (bring or widen weights) is the layer's."""
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
            raise AllSeen
        return args[0] if args else kwargs["hidden_states"]

    with ExitStack() as stack:
        for layer in layers:
            replace_forward(stack, layer, note)
        with suppress(AllSeen):
            model.hf(input_ids=ids, use_cache=False)
    return given


class AllSeen(Exception):
    """What was looked for is known; what comes after it need not run."""
