"""How the parameters of a model are put together from the tensors of its checkpoint, one at a time.

Names and fused tensors follow transformers' own table of conversions (`core_model_loading`): a fused
experts tensor is a stack of matrices that lie apart in the files. Stacks and stacks of two halves, which is
all that most architectures need, are read straight into their place; for any other conversion
transformers' own operations are run on the tensors of that one parameter. What a parameter will be is
settled on the meta device first, so that a checkpoint that does not fit its configuration is refused
before a byte is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from moeaudit.errors import ModelError

from .files import Stored, roomy

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Recipe:
    """How one parameter, or the several that one conversion makes, come from the files."""

    # What is made, by name, with its shape.
    shapes: dict[str, torch.Size]
    dtype: torch.dtype  # as stored
    # Each tensor and the element of the (flat) parameter where it begins; empty for conversions.
    parts: list[tuple[Stored, int]] = field(default_factory=list)
    convert: _Conversion | None = None

    @property
    def bytes(self) -> int:
        return sum(stored.bytes for stored in self.tensors)

    @property
    def tensors(self) -> list[Stored]:
        if self.convert is not None:
            return [each for group in self.convert.sources.values() for each in group]
        return [stored for stored, _ in self.parts]

    def make(
        self,
        views: Mapping[Stored, torch.Tensor],
        kind: Mapping[str, torch.dtype],
        device: torch.device,
    ) -> dict[str, torch.Tensor]:
        """The parameters on `device`, each in its own kind of number, in memory of their own."""
        if self.convert is not None:
            made = self.convert.run(lambda one: views[one].clone())
            return {name: x.to(device, kind.get(name, x.dtype)) for name, x in made.items()}
        ((name, shape),) = self.shapes.items()
        if device.type == "cpu":
            out = roomy(tuple(shape), kind[name])
        else:  # half as many bytes pass to a GPU if they are widened there
            out = torch.empty(shape, dtype=self.dtype, device=device)
        flat = out.view(-1)
        for stored, at in self.parts:
            source = views[stored].reshape(-1)
            flat[at : at + source.numel()].copy_(source, non_blocking=True)
        return {name: out.to(kind[name])}


@dataclass
class _Conversion:
    model: Any
    transform: Any
    target: str
    sources: dict[str, list[Stored]]  # by the pattern that each matched

    def run(self, make: Any) -> dict[str, torch.Tensor]:
        transform = deepcopy(self.transform)
        for pattern, group in self.sources.items():
            for stored in group:
                transform.add_tensor(self.target, pattern, pattern, make(stored))
        made = transform.convert(self.target, model=self.model, config=self.model.config)
        return {name: x[0] if isinstance(x, list) else x for name, x in made.items()}


def recipes(model: PreTrainedModel, stored: Mapping[str, Stored], name: str) -> list[Recipe]:
    """A recipe for every parameter and persistent buffer of `model` (which may be on meta).

    Raises ModelError where the checkpoint lacks a tensor, or one has another shape than the configuration
    asks for.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    wanted = model.state_dict()
    mapping = get_model_conversion_mapping(model)
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    plain: dict[str, Stored] = {}
    fused: dict[str, _Conversion] = {}
    for key in sorted(stored, key=lambda each: dot_natural_key(each)):
        target, pattern = rename_source_key(
            key, renamings, converters, model.base_model_prefix, wanted
        )
        if target not in wanted and key in wanted:
            target, pattern = key, None
        if target not in wanted:
            continue
        if pattern is None:
            plain[target] = stored[key]
        else:
            made = fused.setdefault(target, _Conversion(model, by_pattern[pattern], target, {}))
            made.sources.setdefault(pattern, []).append(stored[key])
    out = [
        Recipe({target: torch.Size(one.shape)}, one.dtype, parts=[(one, 0)])
        for target, one in plain.items()
    ]
    out += [_fused(model, conversion, wanted) for conversion in fused.values()]
    _require_fit(model, name, wanted, out)
    return out


def _fused(
    model: PreTrainedModel, conversion: _Conversion, wanted: Mapping[str, torch.Tensor]
) -> Recipe:
    """One converted parameter: by place where it is a stack of matrices, else by transformers' operations."""
    dtype = next(iter(conversion.sources.values()))[0].dtype
    parts = _stacked(conversion, wanted[conversion.target])
    if parts is not None:
        return Recipe({conversion.target: wanted[conversion.target].shape}, dtype, parts=parts)
    try:
        made = conversion.run(lambda one: torch.empty(one.shape, dtype=one.dtype, device="meta"))
    except Exception as error:
        raise ModelError(
            f"'{conversion.target}' of {type(model).__name__} is put together from several tensors of the "
            "checkpoint in a "
            f"way that cannot be done for one layer alone ({type(error).__name__}: {error}). Load the model whole "
            "(offload=None) on a machine that it fits on."
        ) from error
    return Recipe({name: x.shape for name, x in made.items()}, dtype, convert=conversion)


def _stacked(conversion: _Conversion, wanted: torch.Tensor) -> list[tuple[Stored, int]] | None:
    """Where each matrix lies in a stack (experts, rows, columns), or in a stack of matrices atop each other."""
    from transformers.core_model_loading import Concatenate, MergeModulelist

    transform = conversion.transform
    steps = [(type(each), getattr(each, "dim", None)) for each in transform.operations]
    groups = [conversion.sources.get(pattern, []) for pattern in transform.source_patterns]
    if steps not in ([(MergeModulelist, 0)], [(MergeModulelist, 0), (Concatenate, 1)]):
        return None
    if len(steps) == 1 and len(groups) != 1:
        return None
    shapes = {one.shape for group in groups for one in group}
    kinds = {one.kind for group in groups for one in group}
    if len(shapes) != 1 or len(kinds) != 1 or len({len(group) for group in groups}) != 1:
        return None
    rows, columns = shape if len(shape := next(iter(shapes))) == 2 else (0, 0)
    if tuple(wanted.shape) != (len(groups[0]), len(groups) * rows, columns):
        return None
    size = rows * columns
    return [
        (one, (e * len(groups) + g) * size)
        for g, group in enumerate(groups)
        for e, one in enumerate(group)
    ]


def _require_fit(
    model: PreTrainedModel, name: str, wanted: Mapping[str, torch.Tensor], made: Iterable[Recipe]
) -> None:
    shapes = {target: shape for recipe in made for target, shape in recipe.shapes.items()}
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    missing = sorted(set(wanted) - set(shapes) - tied)
    wrong = sorted(t for t, shape in shapes.items() if t in wanted and wanted[t].shape != shape)
    if wrong:
        first = wrong[0]
        raise ModelError(
            f"'{name}': the checkpoint does not fit its configuration: '{first}' is {tuple(shapes[first])} in the "
            "files and "
            f"{tuple(wanted[first].shape)} by config.json ({len(wrong)} such). Use the config.json that belongs "
            "to these "
            "weights."
        )
    if missing:
        raise ModelError(
            f"'{name}': the checkpoint does not fill the model: {len(missing)} missing (first: '{missing[0]}'). "
            "transformers would start those weights at random, and an audit of random weights means nothing. "
            "Get a complete checkpoint."
        )
