"""The shared expert of a MoE block: its modules, what it says, and that the block adds exactly that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from moeaudit.errors import ContractError, ModelError

from ..anatomy import MoELayer
from ..forward import answering
from ..precision import rounding


@dataclass(frozen=True)
class SharedExpertModules:
    """The modules of a layer's shared expert."""

    expert: nn.Module
    gate: nn.Linear | None


def shared_expert(layer: MoELayer, wanted: str) -> SharedExpertModules:
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
    return SharedExpertModules(experts[0], gates[0] if gates else None)


def output_and_gate(
    shared: SharedExpertModules, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The shared expert's output before its gate, `"n d_model"`, and the gate, `"n"` (1 without one)."""
    output = shared.expert(hidden[None]).reshape(hidden.shape)
    if shared.gate is None:
        return output, torch.ones_like(hidden[:, 0])
    return output, torch.sigmoid(shared.gate(hidden)).reshape(len(hidden))


def require_added(
    layer: MoELayer, hidden: torch.Tensor, module: nn.Module, put: Any, vector: torch.Tensor
) -> None:
    """Raise ContractError unless the edit in the module is the vector added to the routed output.

    Runs the block twice: once with `module` returning `put(output)`, once with `vector` added to
    what the experts return.
    """

    def block() -> torch.Tensor:
        output = layer.block(hidden[None])  # type: ignore[misc]
        return (output[0] if isinstance(output, tuple) else output).reshape(len(hidden), -1).float()

    handle = module.register_forward_hook(lambda _, args, output: put(output))  # noqa: ARG005
    try:
        meant = block()
    finally:
        handle.remove()
    with answering(layer, lambda *_: None, lambda _: vector):
        added = block()
    allowed = rounding(hidden).output * float(meant.abs().max().clamp_min(1e-12))
    error = float((meant - added).abs().max())
    if not error <= allowed:
        raise ContractError(
            f"{layer.architecture}, layer {layer.index}: {type(layer.block).__name__} does not add its gated "
            f"shared expert to the routed output (they differ by {error:.1e}; at most {allowed:.1e} is "
            "rounding), so the shared expert cannot be edited there. Use operators on routed experts: "
            "Zero(), Skip(), Swap(expert)."
        )
