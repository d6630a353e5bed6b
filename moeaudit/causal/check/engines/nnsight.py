"""The same row through nnsight: one trace of one prompt that edits the experts' inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor, nn

from moeaudit.errors import InputError
from moeaudit.models import Model, MoELayer
from moeaudit.models.anatomy import Anatomy, known_anatomy

from ..edits import edits_of
from ..row import Edit, Row, edited_slots, with_vector
from .base import Engine, structural_twin

if TYPE_CHECKING:
    from ...operators.routing import Operator


class NNsightEngine(Engine):
    """One nnsight trace per row.

    Each trace holds exactly one prompt: MoE blocks flatten (batch, sequence), and nnsight does not
    narrow flattened tensors to the rows of one invoke, so an edit made with several prompts in a
    trace would land in the wrong one.
    """

    name: ClassVar[str] = "nnsight"

    @classmethod
    def supports(cls, model: Model) -> str | None:  # noqa: ARG003
        return None

    @cached_property
    def wrapped(self) -> Any:
        from nnsight import NNsight

        return NNsight(structural_twin(self.model.hf))

    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        with self.wrapped.trace(input_ids=ids, use_cache=False):
            logits = self.wrapped.output.logits.save()
        return logits[0]

    def edited_logits(
        self, ids: Int64[Tensor, "1 time"], edits: Mapping[int, Edit]
    ) -> Float[Tensor, "time vocab"]:
        wrapped, anatomy = self.wrapped, self.model.anatomy
        with wrapped.trace(input_ids=ids, use_cache=False):
            for layer in sorted(edits):
                edit_in_trace(wrapped, anatomy, layer, edits[layer])
            logits = wrapped.output.logits.save()
        return logits[0]


def edit_in_trace(wrapped: Any, anatomy: Anatomy, layer: int, edit: Edit) -> None:
    """Edit one layer's experts call; to be called inside a trace, layers in ascending order."""
    moe = anatomy[layer]
    experts = wrapped.get(moe.experts_path)
    args, kwargs = experts.inputs
    hidden, index, weight = [*args, *kwargs.values()][:3]  # [time, d], [time, k], [time, k]
    change = edit(hidden, index, weight)
    index, weight = edited_slots(index, weight, change, moe.num_experts)
    experts.inputs = ((hidden, index, weight), {})
    if change.vector is not None:
        experts.output = with_vector(experts.output, change)


def apply_in_trace(operator: Operator, model: Any, row: Row) -> None:
    """Make one row of an operator inside an open trace of `model`."""
    hf = getattr(model, "_module", None)
    if not hasattr(model, "trace") or hf is None:
        raise InputError(
            f"apply_in_trace() was given a {type(model).__name__}. Give it the nnsight model whose "
            "trace it is called in: with nn.trace(prompt): operator.apply_in_trace(nn, layer=..., ...)."
        )
    anatomy = known_anatomy(hf)
    if anatomy is None:
        raise InputError(
            "This nnsight model was not looked at before the trace, and no second forward can run "
            "inside one. Call moeaudit.load(nn) once before `with nn.trace(...)`."
        )
    apart = replace(anatomy, layers=tuple(_apart(moe) for moe in anatomy.layers))
    edits = edits_of(operator, apart, row)
    for index in sorted(edits):
        edit_in_trace(model, anatomy, index, edits[index])


def _apart(moe: MoELayer) -> MoELayer:
    """The layer with modules of its own, so that an operator may ask them without waking the trace."""
    if moe.block is None:
        return replace(moe, experts=_untraced(moe.experts))
    block = _untraced(moe.block)
    router, inside = moe.router_path, f"{moe.block_path}."
    return replace(
        moe,
        block=block,
        experts=block.get_submodule(moe.experts_path.removeprefix(inside)),
        router=block.get_submodule(router.removeprefix(inside))
        if router is not None and router.startswith(inside)
        else None,
    )


def _untraced(module: nn.Module) -> nn.Module:
    """A copy that shares every tensor and has none of what nnsight puts on each module."""
    put = [(m, name) for m in module.modules() for name in ("forward", "__nnsight__")]
    extras = {id(vars(m)[name]): None for m, name in put if name in vars(m)}
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, memo={**tensors, **extras})
    for m in copied.modules():
        for name in ("forward", "__nnsight__"):
            vars(m).pop(name, None)
    return copied
