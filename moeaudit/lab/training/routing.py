"""Between a router's scores and its choice: mechanisms change the scores, and what was routed is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from moeaudit.errors import ContractError

from .mechanism import Batch, Mechanism, Routed
from .model import router_layers


class _Scores(TorchFunctionMode):
    """While active, the first linear map is the router's scores: they are kept, changed and handed on.

    The rest of the router runs as it is written: its softmax, its top-k, its renormalisation, its scaling.
    """

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.raw: Tensor | None = None
        self.given: Tensor | None = None

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.raw is None and getattr(func, "__name__", "") == "linear":
            self.raw = out
            self.given = out = self.change(out)
        return out


class Routing:
    """The routers of a model in training; `routed()` is what the last forward pass of `batch` routed.

    Mechanisms that override `route` are asked in order, each on what the one before returned.
    """

    def __init__(self, model: torch.nn.Module, mechanisms: Sequence[Mechanism]) -> None:
        self.batch: Batch | None = None
        self._changing = [m for m in mechanisms if type(m).route is not Mechanism.route]
        self._seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for layer, router in router_layers(model).items():
            router.forward = self._around(layer, router.forward)

    def routed(self) -> list[Routed]:
        """One entry a MoE layer, in order; gradients flow into logits and probabilities."""
        return [
            Routed(layer, raw.float(), given.float().softmax(-1), index)
            for layer, (raw, given, index) in sorted(self._seen.items())
        ]

    def _around(self, layer: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._changing or self.batch is None:
                answer = forward(*args, **kwargs)
                raw = given = answer[0]
            else:
                with _Scores(lambda logits: self._changed(layer, logits)) as scores:
                    answer = forward(*args, **kwargs)
                raw, given = scores.raw, scores.given
                if raw is None or given is None:
                    raise ContractError(
                        f"The router of layer {layer} computes its scores by other means than a linear map, so "
                        f"[mechanisms.{self._changing[0].name}] cannot change them."
                    )
            self._seen[layer] = (raw, given, answer[2])
            return answer

        return call

    def _changed(self, layer: int, logits: Tensor) -> Tensor:
        batch = self.batch
        if batch is None:
            return logits
        for mechanism in self._changing:
            logits = mechanism.route(layer, logits, batch)
        return logits
