"""What is seen of each sample when a block, or a whole model, runs on a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.models.anatomy import MoELayer
from moeaudit.models.contract.probe import as_experts_call
from moeaudit.models.forward import listening

from .compare import Seen


def block_pass(layer: MoELayer | None = None) -> Callable[..., list[Seen]]:
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


def model_pass(model: Model) -> Callable[..., list[Seen]]:
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
        if silent := [path for path in paths if path not in calls]:
            raise RuntimeError(
                f"{silent[0]} was not called with (hidden states, index, weights) in this forward"
            )
        start = np.cumsum([0, *counts[:-1]])
        seen = [calls[path] for path in paths]
        index = torch.cat([i + int(s) for (i, _), s in zip(seen, start)], -1).reshape(
            *rows.shape, -1
        )
        weight = torch.cat([w.to(logits) for _, w in seen], -1).reshape(*rows.shape, -1)
        return [Seen(*each) for each in zip(logits, index, weight)]

    return run


def hidden_states(model: Model, ids: torch.Tensor) -> dict[int, torch.Tensor]:
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
