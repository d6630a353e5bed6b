"""The plainest engine: PyTorch hooks on the experts module edit what it is given and returns."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from moeaudit.models import Model, MoELayer

from ..row import Change, Edit, edited_slots, with_vector
from .base import Engine


class HooksEngine(Engine):
    """One full forward with PyTorch hooks; works wherever the router contract holds."""

    name: ClassVar[str] = "hooks"

    @classmethod
    def supports(cls, model: Model) -> str | None:  # noqa: ARG003
        return None

    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        return self.model.hf(input_ids=ids, use_cache=False).logits[0]

    def edited_logits(
        self, ids: Int64[Tensor, "1 time"], edits: Mapping[int, Edit]
    ) -> Float[Tensor, "time vocab"]:
        with ExitStack() as stack:
            for index, edit in edits.items():
                moe = self.model.anatomy[index]
                hooks = _hooks(moe, edit)
                handle = moe.experts.register_forward_pre_hook(hooks[0], with_kwargs=True)
                stack.callback(handle.remove)
                stack.callback(moe.experts.register_forward_hook(hooks[1]).remove)
            return self.logits(ids)


def _hooks(moe: MoELayer, edit: Edit) -> tuple[Any, Any]:
    """A hook on the way in that changes weights, and one on the way out that adds the vector."""
    busy = False
    made: list[Change] = []

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal busy
        if busy:  # an operator may ask the experts themselves
            return None
        hidden, index, weight = [*args, *kwargs.values()][:3]  # [time, d], [time, k], [time, k]
        busy = True
        try:
            made.append(edit(hidden, index, weight))
        finally:
            busy = False
        return (hidden, *edited_slots(index, weight, made[-1], moe.num_experts)), {}

    def after(_module: Any, _args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        return None if busy else with_vector(output, made[-1])

    return before, after
