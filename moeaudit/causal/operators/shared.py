"""The shared expert beside the routed ones: removed, or its gate set by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from moeaudit.errors import InputError, ModelError
from moeaudit.models import MoELayer
from moeaudit.models.experts.shared import (
    SharedExpertModules,
    output_and_gate,
    require_added,
    shared_expert,
)

from .base import BaseOperator
from .routing import Edits, Routing


def _one_row(
    routing: Routing, gate: torch.Tensor, vector: torch.Tensor, about: dict[str, torch.Tensor]
) -> Edits:
    """One row a position: no routed weight changes, `vector` is added, rank and expert are -1."""
    none = torch.full_like(routing.index[:, :1], -1)
    return Edits(
        none,
        routing.index[:, None, :1],
        torch.zeros_like(routing.weight[:, None, :1]),
        vector=vector[:, None],
        about=about,
        subject=(none, gate.to(routing.weight.dtype)[:, None]),
    )


@dataclass(frozen=True)
class SharedExpert(BaseOperator):
    r"""Remove the shared expert: what every token gets beside its routed experts.

    The block's output is $y + g\,S(x)$ with $g = \sigma(u \cdot x)$ (Qwen2-MoE) or $g = 1$ (DeepSeek), and
    becomes $y$. One row for each position and layer, with rank and expert -1 and the gate $g$ as
    weight. That the block adds exactly this is verified on the tokens at hand.

    Raises ModelError for layers without a shared expert, ContractError where it is not added to the
    routed output.
    """

    of_one_expert = False

    @property
    def name(self) -> str:
        return "shared expert removed"

    def rows(self, layer: MoELayer) -> int:
        shared_expert(layer, "SharedExpert()")
        return 1

    def edits(self, routing: Routing) -> Edits:
        layer, hidden = routing.layer, routing.hidden
        shared = shared_expert(layer, "SharedExpert()")
        output, gate = output_and_gate(shared, hidden)
        vector = -gate[:, None] * output
        require_added(layer, hidden, shared.expert, torch.zeros_like, vector)
        return _one_row(routing, gate, vector, {})


@dataclass(frozen=True)
class SharedGate(BaseOperator):
    r"""Set the shared expert's gate to `value` in [0, 1]; 1, the default, is fully open.

    The block's output $y + \sigma(u \cdot x)\,S(x)$ becomes $y + v\,S(x)$. One row for each position and
    layer, with rank and expert -1 and the model's own gate as weight; the column `gate` is v.
    `SharedGate(0.0)` is `SharedExpert()`.

    Raises InputError for a value outside [0, 1], ModelError for models without a shared expert or
    whose shared expert has no gate.
    """

    value: float = 1.0

    of_one_expert = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise InputError(
                f"SharedGate({self.value}): a gate is a sigmoid, so a value from 0 (closed) to 1 (open) was "
                "expected."
            )

    @property
    def name(self) -> str:
        return f"shared gate at {self.value:g}"

    def _gated(self, layer: MoELayer) -> tuple[SharedExpertModules, nn.Linear]:
        shared = shared_expert(layer, self._call)
        if shared.gate is None:
            raise ModelError(
                f"{layer.architecture}, layer {layer.index}: {type(layer.block).__name__} adds its shared "
                f"expert without a gate, so {self._call} has nothing to set. SharedExpert() removes it."
            )
        return shared, shared.gate

    @property
    def _call(self) -> str:
        return f"SharedGate({self.value:g})"

    def rows(self, layer: MoELayer) -> int:
        self._gated(layer)
        return 1

    def edits(self, routing: Routing) -> Edits:
        layer, hidden = routing.layer, routing.hidden
        shared, gating = self._gated(layer)
        output, gate = output_and_gate(shared, hidden)
        vector = (self.value - gate)[:, None] * output
        logit = torch.logit(torch.tensor(self.value, dtype=torch.float64)).item()  # may be infinite
        require_added(layer, hidden, gating, lambda score: torch.full_like(score, logit), vector)
        at = torch.full((len(hidden), 1), self.value, device=hidden.device)
        return _one_row(routing, gate, vector, {"gate": at})
