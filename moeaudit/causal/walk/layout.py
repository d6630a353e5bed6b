"""Which dimension of which argument of a decoder layer counts tokens: measured, not known.

Decoder layers differ in signature (rotary cosines, position ids, per-layer inputs ...). Two
forward passes over documents of different length show which dimensions follow the length.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from moeaudit.models import Model
from moeaudit.models.contract.probe import probe_ids
from moeaudit.models.placement import driven

from ..attention.reroute import RowsDoNotHold, row_attention

Path = driven.Path
# One dict for each decoder layer: path of a tensor in (args, kwargs) -> its token dimensions.
Layout = list[dict[Path, tuple[int, ...]]]
LENGTHS = (7, 11)


def map_tensors(fn: Callable[[Path, torch.Tensor], Any], tree: Any, path: Path = ()) -> Any:
    """Rebuild nested tuples, lists and dicts with `fn(path, tensor)` in place of each tensor."""
    if isinstance(tree, torch.Tensor):
        return fn(path, tree)
    if isinstance(tree, dict):
        return {key: map_tensors(fn, value, (*path, key)) for key, value in tree.items()}
    if type(tree) in (tuple, list):
        return type(tree)(map_tensors(fn, value, (*path, i)) for i, value in enumerate(tree))
    return tree


def hidden_path(args: tuple, kwargs: dict) -> Path:
    """Where the layer's hidden state is among its arguments."""
    found = driven.hidden_path(args, kwargs)
    if found is None:
        raise RowsDoNotHold(
            "a decoder layer is called without a hidden state as its first argument"
        )
    return found


def shapes_of(i: int, args: tuple, kwargs: dict, length: int) -> dict[Path, tuple[int, ...]]:
    """Shapes of all tensors that decoder layer i is called with for a text of so many tokens."""
    path = hidden_path(args, kwargs)
    for name, value in kwargs.items():
        if name.startswith("past_key_value") and value is not None:
            raise RowsDoNotHold(f"decoder layer {i} insists on a cache ({name})")
    shapes: dict[Path, tuple[int, ...]] = {}

    def note(at: Path, tensor: torch.Tensor) -> torch.Tensor:
        shapes[at] = tuple(tensor.shape)
        return tensor

    map_tensors(note, (args, kwargs))
    if shapes[path][:2] != (1, length):
        raise RowsDoNotHold(
            f"the hidden state of decoder layer {i} has shape {shapes[path]}, not (1, tokens, ...)"
        )
    return shapes


def layer_layout(model: Model) -> Layout:
    """Measure the layout of every decoder layer by two forward passes.

    Raises RowsDoNotHold where it is not clear.
    """
    return moving(*(_seen(model, length) for length in LENGTHS))


def moving(
    shorter: list[dict[Path, tuple[int, ...]]], longer: list[dict[Path, tuple[int, ...]]]
) -> Layout:
    layout: Layout = []
    for short, long in zip(shorter, longer):
        if short.keys() != long.keys():
            raise RowsDoNotHold(
                "a decoder layer is called differently for texts of different length"
            )
        dims: dict[Path, tuple[int, ...]] = {}
        for path, shape in short.items():
            if len(shape) != len(long[path]):
                raise RowsDoNotHold(
                    f"the argument {path[-1]!r} of a decoder layer changes its rank"
                )
            moving = tuple(i for i, pair in enumerate(zip(shape, long[path])) if pair[0] != pair[1])
            if any((shape[i], long[path][i]) != LENGTHS for i in moving):
                raise RowsDoNotHold(
                    f"the argument {path[-1]!r} of a decoder layer is not one row a token"
                )
            dims[path] = moving
        layout.append(dims)
    return layout


@torch.no_grad()
def _seen(model: Model, length: int) -> list[dict[Path, tuple[int, ...]]]:
    """Shapes of each layer's arguments in one forward pass."""
    seen: list[dict[Path, tuple[int, ...]]] = [{} for _ in model.anatomy.decoder_layers]

    def record(i: int):
        def hook(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:  # noqa: ARG001
            if seen[i]:
                raise RowsDoNotHold(f"decoder layer {i} is called twice in one forward pass")
            seen[i] = shapes_of(i, args, kwargs, length)

        return hook

    with row_attention(model.hf, length), ExitStack() as stack:
        for i, layer in enumerate(model.anatomy.decoder_layers):
            handle = layer.register_forward_pre_hook(record(i), with_kwargs=True)
            stack.callback(handle.remove)
        model.hf(input_ids=probe_ids(model.hf, length), use_cache=False)
    return seen
