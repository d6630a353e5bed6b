"""`batch_mates`: a sample alone, beside copies of itself, and beside others; whatever differs, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.models.anatomy import MoELayer
from moeaudit.models.contract.probe import as_experts_call
from moeaudit.models.forward import evaluating, experts_as, listening
from moeaudit.models.placement.stream import stream_of
from moeaudit.models.precision import not_memory, rounding
from moeaudit.text.for_model import first_tokens

from .compare import Apart, Seen, apart
from .result import COLUMNS, DEPENDS, INDEPENDENT, ROUNDING, UNDECIDED, BatchMates
from .wider import in_float64, widened

EXPERTS = ("eager", "batched_mm", "grouped_mm")
AS_IT_IS = "as it is"
# Between float32 and float64 rounding shrinks by 2**29, between bfloat16 and float64 by more; a dependence by nothing.
_SHRINKS = 2.0**12

# A batch "samples tokens ..." -> what was seen of each sample.
Pass = Callable[[torch.Tensor], "list[Seen]"]


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
        ids = _ids(model_or_block, docs, samples, tokens, seed)
        return _of_model(model_or_block, ids, _named(experts))
    if docs is not None or experts is not None:
        raise InputError(
            f"{type(model_or_block).__name__} is a block on its own: it takes hidden=, and neither docs= nor "
            "experts=. For those load the model with ma.load."
        )
    states = _states(model_or_block, samples, tokens, seed) if hidden is None else hidden
    if states.dim() != 3 or len(states) < 2:
        raise InputError(
            f"hidden has the shape {tuple(states.shape)}; (samples, tokens, width) with at least two samples was "
            "expected."
        )
    return _of_block(model_or_block, states)


def _of_block(block: nn.Module, states: torch.Tensor) -> BatchMates:
    _differ(states)
    training = [m for m in block.modules() if m.training]
    for module in training:
        module.training = False
    try:
        row = _compared(_block_pass(), states, block, AS_IT_IS, None)
    finally:
        for module in training:
            module.training = True
    return _result(type(block).__name__, [row], states, states.dtype)


def _of_model(model: Model, ids: torch.Tensor, implementations: Sequence[str]) -> BatchMates:
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with evaluating(model.hf):
        aside = stream_of(model.hf) is not None
        states = _hidden_states(model, ids)
        for named in implementations:
            with ExitStack() as stack:
                try:
                    stack.enter_context(experts_as(model.hf, named))
                except (ValueError, NotImplementedError, AttributeError) as error:
                    notes.append(f"{named} was not run: {_first(error)}")
                    continue
                rows += _with(model, ids, states, named, aside)
        if not rows:
            rows = _with(model, ids, states, AS_IT_IS, aside)
    return _result(model.name, rows, ids, model.dtype, notes)


def _with(
    model: Model, ids: torch.Tensor, states: dict[int, torch.Tensor], named: str, aside: bool
) -> list[dict[str, Any]]:
    """The rows of one experts implementation."""
    try:
        rows = [
            _layer_row(layer, states[layer.index], named, aside) for layer in model.anatomy.layers
        ]
        return [*rows, _compared(_model_pass(model), ids, model.hf, named, None)]
    except (RuntimeError, ValueError, KeyError, NotImplementedError) as error:
        not_memory(error, f"running {model.name} with {named}")
        if isinstance(error, InputError):
            raise
        return [_undecided(named, None, _first(error))]


def _layer_row(layer: MoELayer, states: torch.Tensor, named: str, aside: bool) -> dict[str, Any]:
    if layer.block is None:
        return _undecided(named, layer.index, "its experts sit in no block that could be run")
    if aside:
        return _undecided(named, layer.index, "its weights are streamed")
    try:
        return _compared(_block_pass(layer), states, layer.block, named, layer.index)
    except (TypeError, RuntimeError, ValueError, IndexError, AttributeError) as error:
        not_memory(error, f"running {layer.name}")
        if isinstance(error, InputError):
            raise
        return _undecided(
            named,
            layer.index,
            f"{type(layer.block).__name__} does not run on hidden states alone ({_first(error)})",
        )


def _compared(
    run: Callable[[nn.Module, torch.Tensor], list[Seen]],
    batch: torch.Tensor,
    module: nn.Module,
    named: str,
    layer: int | None,
) -> dict[str, Any]:
    """One row of the table."""

    def here(rows: torch.Tensor) -> list[Seen]:
        return run(module, rows)

    alone = [here(batch[i : i + 1])[0] for i in range(len(batch))]
    same = _beside_copies(here, batch, alone)
    mates = _beside_others(here, batch, alone)
    routed = alone[0].index is not None
    row = {
        "experts": named,
        "layer": layer,
        "tokens": mates.tokens,
        "moved": mates.moved if routed else None,
        "weight": mates.weight if routed else None,
        "output": mates.output,
        "same_moved": same.moved if routed else None,
        "same_output": same.output,
        "wide_moved": None,
        "wide_output": None,
        "reason": None,
    }
    if mates.moved == 0 and mates.output <= same.output and mates.weight <= same.weight:
        return row | {"verdict": INDEPENDENT}
    copied = widened(module)
    if isinstance(copied, str):
        return row | {"verdict": UNDECIDED, "reason": copied}
    wide, how = _in_float64(run, copied, batch, named)
    if isinstance(wide, str):
        return row | {"verdict": UNDECIDED, "reason": wide}
    row |= {"wide_moved": wide.moved - wide.tied if routed else None, "wide_output": wide.output}
    if wide.moved > wide.tied or wide.output * _SHRINKS > max(mates.output, same.output):
        return row | {"verdict": DEPENDS}
    if how != named and mates.output > rounding(alone[0].output).output:
        why = f"{named} does not compute in float64, and {mates.output:.1e} is more than rounding explains"
        return row | {"verdict": UNDECIDED, "reason": why}
    return row | {"verdict": ROUNDING}


def _beside_copies(run: Pass, batch: torch.Tensor, alone: list[Seen]) -> Apart:
    """What the shape alone does: each sample beside one copy of itself and as many as there are samples."""
    found = Apart()
    for i, one in enumerate(alone):
        for copies in sorted({2, len(batch)}):
            rows = batch[i : i + 1].repeat(copies, *[1] * (batch.dim() - 1))
            for other in run(rows):
                found |= apart(one, other)
    return found


def _beside_others(run: Pass, batch: torch.Tensor, alone: list[Seen]) -> Apart:
    """Each sample beside each one other, and beside all others, in both orders."""
    found, n = Apart(), len(batch)
    orders = [list(range(n)), list(reversed(range(n)))]
    orders += [[i, (i + 1) % n] for i in range(n)]
    for order in orders:
        for place, other in zip(order, run(batch[order])):
            found |= apart(alone[place], other)
    return found


def _in_float64(
    run: Callable[[nn.Module, torch.Tensor], list[Seen]],
    copied: nn.Module,
    batch: torch.Tensor,
    named: str,
) -> tuple[Apart | str, str]:
    wide = batch.double() if batch.is_floating_point() else batch

    def beside(rows: torch.Tensor) -> list[Seen]:
        return run(copied, rows)

    said = ""
    for how in dict.fromkeys((named, "eager")):
        config = any(
            hasattr(getattr(m, "config", None), "_experts_implementation") for m in copied.modules()
        )
        using = nullcontext() if how == AS_IT_IS or not config else _set(copied, how)
        try:
            with using, in_float64():
                alone = [beside(wide[i : i + 1])[0] for i in range(len(wide))]
                return _beside_others(beside, wide, alone), how
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            not_memory(error, "running in float64")
            said = said or f"it does not compute in float64 ({_first(error)})"
    return said, named


@contextmanager
def _set(copied: nn.Module, how: str) -> Iterator[None]:
    """The copy's own configurations, which nobody else holds, say how experts are computed."""
    for module in copied.modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_experts_implementation_internal"):
            config._experts_implementation_internal = how  # noqa: SLF001
    yield


def _block_pass(layer: MoELayer | None = None) -> Callable[..., list[Seen]]:
    path = None
    if layer is not None:
        path = layer.experts_path.removeprefix(f"{layer.block_path}.")

    def run(module: nn.Module, rows: torch.Tensor) -> list[Seen]:
        calls: list[tuple[torch.Tensor, torch.Tensor]] = []

        def heard(inner: nn.Module, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
            found = as_experts_call(args, kwargs)
            if found is not None and found[0].shape[0] == rows.shape[0] * rows.shape[1]:
                calls.append(found[1:])

        inside = (
            [module.get_submodule(path)]
            if path
            else [m for m in module.modules() if m is not module]
        )
        with ExitStack() as stack:
            for inner in inside:
                handle = inner.register_forward_pre_hook(heard, with_kwargs=True)
                stack.callback(handle.remove)
            output = _output(module, module(rows), rows)
        shape = rows.shape[:2]
        if not calls:
            return [Seen(each) for each in output]
        index, weight = (x.reshape(*shape, -1) for x in calls[0])
        return [Seen(*each) for each in zip(output, index, weight)]

    return run


def _model_pass(model: Model) -> Callable[..., list[Seen]]:
    """Logits of the whole model; the choices of all layers side by side."""
    paths = [layer.experts_path for layer in model.anatomy.layers]
    counts = [layer.num_experts for layer in model.anatomy.layers]

    def run(module: nn.Module, rows: torch.Tensor) -> list[Seen]:
        calls: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

        def on(path: str) -> Callable[..., None]:
            def heard(inner: nn.Module, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
                found = as_experts_call(args, kwargs)
                if found is not None and path not in calls:
                    calls[path] = found[1:]

            return heard

        with ExitStack() as stack:
            for path in paths:
                handle = module.get_submodule(path).register_forward_pre_hook(
                    on(path), with_kwargs=True
                )
                stack.callback(handle.remove)
            logits = module(input_ids=rows, use_cache=False).logits
        start = np.cumsum([0, *counts[:-1]])
        seen = [calls[path] for path in paths]
        index = torch.cat([i + int(s) for (i, _), s in zip(seen, start)], -1).reshape(
            *rows.shape, -1
        )
        weight = torch.cat([w.to(logits) for _, w in seen], -1).reshape(*rows.shape, -1)
        return [Seen(*each) for each in zip(logits, index, weight)]

    return run


def _hidden_states(model: Model, ids: torch.Tensor) -> dict[int, torch.Tensor]:
    """What each layer's block gets of each sample read alone, `"samples tokens width"` by layer."""
    kept: dict[int, list[torch.Tensor]] = {layer.index: [] for layer in model.anatomy.layers}

    def heard(layer: MoELayer, seen: Any) -> None:
        kept[layer.index].append(seen.hidden)

    with listening(model.anatomy.layers, heard):
        for one in ids:
            model.hf(input_ids=one[None], use_cache=False)
    return {layer: torch.stack(found) for layer, found in kept.items()}


def _output(module: nn.Module, output: Any, rows: torch.Tensor) -> torch.Tensor:
    found = [output] if isinstance(output, torch.Tensor) else list(output)
    for each in found:
        if isinstance(each, torch.Tensor) and each.numel() == rows.numel():
            return each.reshape(rows.shape)
    raise InputError(
        f"{type(module).__name__} returned no tensor of the shape of its input, {tuple(rows.shape)}; a block that "
        "maps hidden states (samples, tokens, width) to the same shape was expected."
    )


def _ids(model: Model, docs: Any, samples: int, tokens: int, seed: int) -> torch.Tensor:
    if tokens > model.max_length:
        raise InputError(
            f"tokens = {tokens}: {model.name} reads at most {model.max_length} in one piece."
        )
    if docs is None:
        drawn = np.random.default_rng(seed).integers(0, model.vocab_size, (samples, tokens))
    else:
        read = first_tokens(model, docs, tokens, least=tokens)[:samples]
        if len(read) < 2:
            raise InputError(
                f"{len(read)} documents have {tokens} tokens; at least 2 of this length were expected. Give more "
                "text, or a smaller tokens=."
            )
        drawn = np.stack(read)
    ids = torch.from_numpy(drawn.astype(np.int64)).to(model.device)
    _differ(ids)
    return ids


def _states(block: nn.Module, samples: int, tokens: int, seed: int) -> torch.Tensor:
    config: Any = next(
        (c for m in block.modules() if (c := getattr(m, "config", None)) is not None), None
    )
    width = getattr(config, "hidden_size", None)
    first = next(iter(block.parameters()), None)
    if width is None:
        linear = next((m for m in block.modules() if isinstance(m, nn.Linear)), None)
        width = None if linear is None else linear.in_features
    if width is None or first is None:
        raise InputError(
            f"{type(block).__name__} does not say how wide its hidden states are. Pass hidden= of the shape (samples, "
            "tokens, width)."
        )
    drawn = np.random.default_rng(seed).standard_normal((samples, tokens, width))
    return torch.from_numpy(drawn).to(first)


def _differ(batch: torch.Tensor) -> None:
    if bool((batch == batch[:1]).all()):
        raise InputError(
            "All samples are the same, so none has a mate that differs from itself. Give different ones."
        )


def _named(experts: str | Iterable[str] | None) -> list[str]:
    named = (
        list(EXPERTS)
        if experts is None
        else [experts]
        if isinstance(experts, str)
        else list(experts)
    )
    wrong = [each for each in named if each not in EXPERTS]
    if wrong or not named:
        raise InputError(
            f"experts = {experts!r}: names among {', '.join(EXPERTS)} were expected, transformers' experts "
            "implementations."
        )
    return named


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


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
