"""A model's own forward with other hidden states in the place of what its last decoder layer returns."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float

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

    Rows stand as short documents of `tokens` tokens. `filler` is any token id; `tuple_tail` is what the layers
    return after the hidden state, None for layers that return it alone.
    """
    count = len(hidden)
    padded = hidden.new_zeros(-(-count // tokens) * tokens, *hidden.shape[1:])
    padded[:count] = hidden
    rows = padded.unflatten(0, (-1, tokens))

    def returned(*_: Any, **__: Any) -> Any:
        return rows if tuple_tail is None else (rows, *tuple_tail)

    with ExitStack() as stack:
        for layer in model.anatomy.decoder_layers:
            _replace(stack, layer, returned)
        ids = filler.expand(len(rows), tokens)
        return model.hf(input_ids=ids, use_cache=False).logits.flatten(0, 1)[:count]


def _replace(stack: ExitStack, layer: torch.nn.Module, forward: Any) -> None:
    """Another forward, without the layer's hooks: what they do (bring or widen weights) is the layer's."""
    had = vars(layer).get("forward")  # set by offloading hooks, absent otherwise
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        stack.callback(setattr, layer, hooks, getattr(layer, hooks))
        setattr(layer, hooks, OrderedDict())

    def restore() -> None:
        if had is None:
            vars(layer).pop("forward", None)
        else:
            vars(layer)["forward"] = had

    vars(layer)["forward"] = forward
    stack.callback(restore)
