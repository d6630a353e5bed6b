"""From the last decoder layer's output to logits, by the model's own code.

The model's forward is run with its decoder layers standing aside and the rows put in the place of
the last one's output. Final norms, heads, scalings and soft caps then need not be known.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float

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
    count = len(hidden)
    documents = -(-count // _TOKENS)
    padded = hidden.new_zeros(documents * _TOKENS, *hidden.shape[1:])
    padded[:count] = hidden
    rows = padded.view(documents, _TOKENS, *hidden.shape[1:])
    layers = model.anatomy.decoder_layers

    def returned(value: torch.Tensor) -> Any:
        return value if tuple_tail is None else (value, *tuple_tail)

    def stand_aside(*args: Any, **kwargs: Any) -> Any:
        return returned(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as stack:
        for layer in layers:
            _replace_forward(stack, layer, stand_aside)
        _replace_forward(stack, layers[-1], lambda *_, **__: returned(rows))
        ids = filler_id.expand(documents, _TOKENS)
        logits = model.hf(input_ids=ids, use_cache=False).logits
    return logits.reshape(documents * _TOKENS, -1)[:count]


def _replace_forward(stack: ExitStack, module: torch.nn.Module, forward: Any) -> None:
    had = module.__dict__.get("forward")  # set by offloading hooks, absent otherwise

    def restore() -> None:
        if had is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = had

    module.__dict__["forward"] = forward
    stack.callback(restore)
