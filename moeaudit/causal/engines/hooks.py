"""The plainest engine: a forward pre-hook on the experts module zeroes one routing weight."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from ...models import Model
from .base import Engine


class HooksEngine(Engine):
    """One full forward with one PyTorch hook; works wherever the router contract holds."""

    name: ClassVar[str] = "hooks"

    @classmethod
    def supports(cls, model: Model) -> str | None:  # noqa: ARG003
        return None

    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        return self.model.hf(input_ids=ids, use_cache=False).logits[0]

    def ablated_logits(
        self, ids: Int64[Tensor, "1 time"], position: int, layer: int, expert: int
    ) -> Float[Tensor, " vocab"] | None:
        active = False

        def zero_one_weight(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            nonlocal active
            hidden, index, weight = args  # [time, d], [time, k], [time, k]
            slots = index[position] == expert
            active = bool(slots.any())
            weight = weight.clone()  # the router's own output stays as it is
            weight[position, slots] = 0
            return hidden, index, weight

        handle = self.model.anatomy[layer].experts.register_forward_pre_hook(zero_one_weight)
        try:
            logits = self.logits(ids)[position]
        finally:
            handle.remove()
        return logits if active else None
