"""From the last decoder layer's output to logits, by the model's own code.

The model's forward is run with its decoder layers standing aside and the rows put in the place of
the last one's output (`models.precision.aside`).
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn

from moeaudit.models import Model
from moeaudit.models.precision.aside import another_forward as another_forward
from moeaudit.models.precision.aside import as_documents, head_of, replace_forward
from moeaudit.models.precision.aside import last_logits as last_logits

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
    return head_of(model, hidden, filler_id, tuple_tail, tokens=_TOKENS)


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
    rows, given = as_documents(hidden, _TOKENS), []

    def note(x: torch.Tensor, *_: Any, **__: Any) -> Any:
        given.append(x)
        raise _AllSeen

    with another_forward(head, note), suppress(_AllSeen):
        last_logits(model, rows, filler_id.expand(rows.shape[:2]), tuple_tail)
    return given[0].reshape(rows.shape[0] * _TOKENS, -1)[: len(hidden)]


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
            replace_forward(stack, layer, note)
        with suppress(_AllSeen):
            model.hf(input_ids=ids, use_cache=False)
    return given


class _AllSeen(Exception):
    """What was looked for is known; what comes after it need not run."""
