"""The shared expert beside the routed ones: removed, or its gate set by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from moeaudit.errors import ContractError, InputError, ModelError
from moeaudit.models import MoELayer

from ..check.handover import Handover
from .routing import Edits, Routing

# What rounding may leave between the edit made in the module and the edit added to the routed
# output, relative to the block's output.
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class _Shared:
    """The modules of a layer's shared expert."""

    expert: nn.Module
    gate: nn.Linear | None


def _shared(layer: MoELayer, wanted: str) -> _Shared:
    """Children of the MoE block called shared...; one of a single output and called gate gates them."""
    children = dict(layer.block.named_children()) if layer.block is not None else {}
    named = {name: module for name, module in children.items() if "shared" in name}
    gates = [
        module
        for name, module in named.items()
        if "gate" in name and isinstance(module, nn.Linear) and module.out_features == 1
    ]
    experts = [module for module in named.values() if module not in gates]
    if len(experts) != 1 or len(gates) > 1:
        has = ", ".join(children) or "no children"
        raise ModelError(
            f"{layer.architecture}, layer {layer.index}: {wanted} needs a shared expert, and "
            f"{type(layer.block).__name__} at '{layer.block_path}' holds {len(experts) or 'none'} (it has {has}). "
            f"Use Zero() or Skip() for its routed experts, or a model with one shared "
            "expert in the block, such as Qwen2-MoE or DeepSeek-V2."
        )
    return _Shared(experts[0], gates[0] if gates else None)


def _output_and_gate(shared: _Shared, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shared expert's output before its gate, `"n d_model"`, and the gate, `"n"` (1 without one)."""
    output = shared.expert(hidden[None]).reshape(hidden.shape)
    if shared.gate is None:
        return output, torch.ones_like(hidden[:, 0])
    return output, torch.sigmoid(shared.gate(hidden)).reshape(len(hidden))


def _require_same(
    layer: MoELayer, hidden: torch.Tensor, module: nn.Module, put: Any, vector: torch.Tensor
) -> None:
    """Raise ContractError unless the edit in the module is the vector added to the routed output.

    Runs the block twice: once with `module` returning `put(output)`, once with `vector` added to
    what the experts return.
    """

    def block_with(where: nn.Module, change: Any) -> torch.Tensor:
        handle = where.register_forward_hook(lambda _, args, output: change(output))  # noqa: ARG005
        try:
            output = layer.block(hidden[None])  # type: ignore[misc]
        finally:
            handle.remove()
        return (output[0] if isinstance(output, tuple) else output).reshape(len(hidden), -1).float()

    meant = block_with(module, put)
    added = block_with(
        layer.experts, lambda output: output + vector.view(output.shape).to(output.dtype)
    )
    allowed = _ROUNDING.get(hidden.dtype, 1e-5) * float(meant.abs().max().clamp_min(1e-12))
    error = float((meant - added).abs().max())
    if not error <= allowed:
        raise ContractError(
            f"{layer.architecture}, layer {layer.index}: {type(layer.block).__name__} does not add its gated "
            f"shared expert to the routed output (they differ by {error:.1e}; at most {allowed:.1e} is "
            "rounding), so the shared expert cannot be edited there. Use operators on routed experts: "
            "Zero(), Skip(), Swap(expert)."
        )


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
class SharedExpert(Handover):
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
        _shared(layer, "SharedExpert()")
        return 1

    def edits(self, routing: Routing) -> Edits:
        layer, hidden = routing.layer, routing.hidden
        shared = _shared(layer, "SharedExpert()")
        output, gate = _output_and_gate(shared, hidden)
        vector = -gate[:, None] * output
        _require_same(layer, hidden, shared.expert, torch.zeros_like, vector)
        return _one_row(routing, gate, vector, {})


@dataclass(frozen=True)
class SharedGate(Handover):
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

    def _gated(self, layer: MoELayer) -> tuple[_Shared, nn.Linear]:
        shared = _shared(layer, self._call)
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
        output, gate = _output_and_gate(shared, hidden)
        vector = (self.value - gate)[:, None] * output
        logit = torch.logit(torch.tensor(self.value, dtype=torch.float64)).item()  # may be infinite
        _require_same(layer, hidden, gating, lambda score: torch.full_like(score, logit), vector)
        at = torch.full((len(hidden), 1), self.value, device=hidden.device)
        return _one_row(routing, gate, vector, {"gate": at})
