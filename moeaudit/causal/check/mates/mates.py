"""`batch_mates`: a sample alone, beside copies of itself, and beside others; whatever differs, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import pandas as pd
import torch
from torch import nn

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.models.anatomy import MoELayer
from moeaudit.models.forward import evaluating, experts_as
from moeaudit.models.placement.stream import stream_of
from moeaudit.models.precision import not_memory

from .passes import block_pass, hidden_states, model_pass
from .result import COLUMNS, UNDECIDED, BatchMates
from .samples import block_states, implementations_named, require_different, token_ids
from .verdict import AS_IT_IS, compared, first_line


@torch.no_grad()
def batch_mates(
    model_or_block: Model | nn.Module,
    docs: Any = None,
    *,
    hidden: torch.Tensor | None = None,
    samples: int = 4,
    tokens: int = 24,
    experts: str | Iterable[str] | None = None,
    seed: int = 0,
) -> BatchMates:
    """Does a sample's routing or output change with its batch mates?

    Every sample goes through alone, beside copies of itself (which changes the shape of the batch and nothing
    else, so it measures what rounding does), and beside the other samples. Each MoE block is run on its own, with
    exactly the same hidden states in all batches, so that a changed selection is the block's own doing; then
    the whole model. What differs by more than copies do is run again in float64, where rounding shrinks by
    2**29 and a dependence does not.

    Args:
        model_or_block: a loaded model, or any module that maps hidden states `"samples tokens width"` to the
            same shape (or to a tuple that holds such a tensor).
        docs: for a model, a corpus of which the first `tokens` tokens of `samples` documents are read; random
            token ids if None.
        hidden: for a block, the samples' hidden states, `"samples tokens width"`; standard normal if None, where
            the block's own matrices say its width.
        samples, tokens: how many samples, all of one length, so that there is no padding.
        experts: transformers' experts implementations to run, "eager", "batched_mm", "grouped_mm" (all if None);
            a block runs as it is.
        seed: of the random ids or states.

    Returns:
        A `BatchMates`, which shows itself; `.independent` is True, False, or None where it was not decided.

    Raises:
        InputError: fewer than two samples or two tokens, samples that are all alike, an unknown experts
            implementation, a block whose width is not known or whose output has another shape.

    Example:
        ma.batch_mates(ma.load("tiny-olmoe"), samples=2, tokens=4, experts="eager")
    """
    if samples < 2 or tokens < 2:
        raise InputError(
            f"samples = {samples}, tokens = {tokens}: at least 2 samples of 2 tokens were expected, since a sample "
            "is compared with itself beside others."
        )
    if isinstance(model_or_block, Model):
        if hidden is not None:
            raise InputError("hidden= is for a block on its own; a model reads docs=.")
        ids = token_ids(model_or_block, docs, samples, tokens, seed)
        return _of_model(model_or_block, ids, implementations_named(experts))
    if docs is not None or experts is not None:
        raise InputError(
            f"{type(model_or_block).__name__} is a block on its own: it takes hidden=, and neither docs= nor "
            "experts=. For those load the model with ma.load."
        )
    states = block_states(model_or_block, samples, tokens, seed) if hidden is None else hidden
    if states.dim() != 3 or len(states) < 2:
        raise InputError(
            f"hidden has the shape {tuple(states.shape)}; (samples, tokens, width) with at least two samples was "
            "expected."
        )
    return _of_block(model_or_block, states)


def _of_block(block: nn.Module, states: torch.Tensor) -> BatchMates:
    require_different(states)
    training = [m for m in block.modules() if m.training]
    for module in training:
        module.training = False
    try:
        row = compared(block_pass(), states, block, AS_IT_IS, None)
    finally:
        for module in training:
            module.training = True
    return _result(type(block).__name__, [row], states, states.dtype)


def _of_model(model: Model, ids: torch.Tensor, implementations: Sequence[str]) -> BatchMates:
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with evaluating(model.hf):
        aside = stream_of(model.hf) is not None
        states = hidden_states(model, ids)
        if not hasattr(model.hf.config, "_experts_implementation"):
            notes.append("its experts run one way only: no experts implementation can be chosen")
            implementations = []
        for named in implementations:
            with ExitStack() as stack:
                try:
                    stack.enter_context(experts_as(model.hf, named))
                except (
                    ValueError,
                    NotImplementedError,
                ) as refusal:  # transformers': not for this model
                    notes.append(f"{named} was not run: {first_line(refusal)}")
                    continue
                rows += _with(model, ids, states, named, aside)
        if not rows:
            rows = _with(model, ids, states, AS_IT_IS, aside)
    return _result(model.name, rows, ids, model.dtype, notes)


def _with(
    model: Model, ids: torch.Tensor, states: dict[int, torch.Tensor], named: str, aside: bool
) -> list[dict[str, Any]]:
    """The rows of one experts implementation: each layer's, then the whole model's."""
    rows = [_layer_row(layer, states[layer.index], named, aside) for layer in model.anatomy.layers]
    try:
        return [*rows, compared(model_pass(model), ids, model.hf, named, None)]
    except InputError:
        raise
    except (RuntimeError, ValueError, NotImplementedError) as error:
        not_memory(error, f"running {model.name} with {named}")
        return [*rows, _undecided(named, None, first_line(error))]


def _layer_row(layer: MoELayer, states: torch.Tensor, named: str, aside: bool) -> dict[str, Any]:
    if layer.block is None:
        return _undecided(named, layer.index, "its experts sit in no block that could be run")
    if aside:
        return _undecided(named, layer.index, "its weights are streamed")
    try:
        return compared(block_pass(layer), states, layer.block, named, layer.index)
    except InputError:
        raise
    except (TypeError, RuntimeError, ValueError, IndexError, AttributeError) as error:
        # Blocks want masks, positions or tuples of their own; said in the row, and the whole model is asked as well.
        not_memory(error, f"running {layer.name}")
        return _undecided(
            named,
            layer.index,
            f"{type(layer.block).__name__} does not run on hidden states alone ({first_line(error)})",
        )


def _undecided(named: str, layer: int | None, reason: str) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {
        "experts": named,
        "layer": layer,
        "verdict": UNDECIDED,
        "reason": reason,
    }


def _result(
    name: str,
    rows: list[dict[str, Any]],
    batch: torch.Tensor,
    dtype: torch.dtype,
    notes: Sequence[str] = (),
) -> BatchMates:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in COLUMNS:
        if column in ("layer", "tokens", "moved", "same_moved", "wide_moved"):
            frame[column] = frame[column].astype("Int64")
        elif column in ("weight", "output", "same_output", "wide_output"):
            frame[column] = frame[column].astype("Float64")
    return BatchMates(
        name, frame, batch.shape[0], batch.shape[1], str(dtype).removeprefix("torch."), tuple(notes)
    )
