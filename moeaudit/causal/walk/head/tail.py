"""From the last decoder layer's output to logits, by the model's own code.

The model's forward is run with its decoder layers standing aside and the rows put in the place of
the last one's output (`models.placement.aside`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from moeaudit.models import Model
from moeaudit.models.placement.aside import AllSeen, another_forward, as_documents, head_of
from moeaudit.models.placement.aside import last_logits as last_logits
from moeaudit.models.placement.aside import layer_arguments as layer_arguments

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
        raise AllSeen

    with another_forward(head, note), suppress(AllSeen):
        last_logits(model, rows, filler_id.expand(rows.shape[:2]), tuple_tail)
    return given[0].reshape(rows.shape[0] * _TOKENS, -1)[: len(hidden)]
