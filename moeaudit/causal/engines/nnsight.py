"""The same cell through nnsight: one trace of one prompt that edits the inputs of the experts."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from ...models import Model
from .base import Engine, structural_twin


class NNsightEngine(Engine):
    """One nnsight trace per cell.

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

    def ablated_logits(
        self, ids: Int64[Tensor, "1 time"], position: int, layer: int, expert: int
    ) -> Float[Tensor, " vocab"] | None:
        wrapped = self.wrapped
        experts = wrapped.get(self.model.anatomy[layer].experts_path)
        with wrapped.trace(input_ids=ids, use_cache=False):
            args, kwargs = experts.inputs
            hidden, index, weight = args  # [time, d], [time, k], [time, k]
            slots = (index[position] == expert).save()
            weight = weight.clone()
            weight[position, slots] = 0
            experts.inputs = ((hidden, index, weight), kwargs)
            logits = wrapped.output.logits.save()
        return logits[0, position] if bool(slots.any()) else None
