"""Operators handed over: the same edit as hooks for TransformerLens, or inside an nnsight trace.

Importing this puts both functions on the operators as methods, `Zero().apply_in_trace(...)`: the
operators know neither library, and this room knows both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from moeaudit.errors import InputError

from ..operators.base import BaseOperator
from ..operators.draws import document_key
from ..operators.routing import Operator
from .engines import nnsight, transformer_lens
from .row import Row


def as_transformer_lens_hooks(
    operator: Operator,
    model: Any,
    *,
    layer: int,
    position: int,
    rank: int = 0,
    tokens: Any = None,
    **about: Any,
) -> list[tuple[str, Callable[..., Any]]]:
    """Hooks for `bridge.run_with_hooks(tokens, fwd_hooks=...)`: one row of the operator's table.

    `model` is a `TransformerBridge`, or what `moeaudit.load` made of it. Weights are edited at
    `blocks.L.mlp.hook_expert_weights`; what an operator adds besides, at `mlp.hook_out`. `layer` is the
    decoder layer's index, `position` the token's place in the one prompt that is read, `rank` the active
    expert the row is about (0 = largest weight; -1 for rows about no active expert). Where a rank has
    several rows, `about` tells them apart by the table's further columns: `Swap("all")` takes
    `entered=5`, `Coalitions()` takes `members=0b101`. Operators that draw at random (`Resample`,
    `Permutations`) draw for a document, so they need its `tokens`.

    Raises InputError for a layer, position or row that does not exist and ModelError for a bridge
    whose routers have no hook on expert weights, or (when the hook runs) for an answer that a bridge
    cannot hold: a negative weight, or more experts than the model activates.
    """
    row = Row(layer, position, rank, None, about, document=_document(operator, tokens))
    return transformer_lens.handed_over(operator, model, row)


def apply_in_trace(
    operator: Operator,
    model: Any,
    *,
    layer: int,
    position: int,
    rank: int = 0,
    tokens: Any = None,
    **about: Any,
) -> None:
    """Make the edit inside `with nn.trace(prompt):`, where `nn` is an nnsight model.

    The row is named as in `as_transformer_lens_hooks`. Give `moeaudit.load(nn)` a chance to look at the
    model before the trace: no second forward can run inside one. A trace holds exactly one prompt,
    since MoE blocks flatten the batch.

    Raises InputError for a model that was not loaded before, or a row that does not exist.
    """
    row = Row(layer, position, rank, None, about, document=_document(operator, tokens))
    nnsight.apply_in_trace(operator, model, row)


def _document(operator: Operator, tokens: Any) -> int:
    if tokens is not None:
        return document_key(torch.as_tensor(np.asarray(tokens)).flatten())
    if getattr(operator, "draws", False):
        raise InputError(
            f"{operator.name} draws at random, and not the same for every document. Pass the prompt's token ids as "
            "tokens=..., so that the row is the one of the table."
        )
    return 0


BaseOperator.as_transformer_lens_hooks = as_transformer_lens_hooks
BaseOperator.apply_in_trace = apply_in_trace
