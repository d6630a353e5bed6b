"""The router contract: what must hold before an expert's removal means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from moeaudit.errors import ContractError

if TYPE_CHECKING:
    from .probe import ExpertsCall, Probe

# Relative error allowed between the routed output and the sum of its slots, by precision.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}


@torch.no_grad()
def slot_contributions(
    experts: torch.nn.Module, hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Each slot's own weighted output, `"tokens slots d_model"`; their sum is the routed output."""
    tokens, slots = index.shape
    rows = hidden.repeat_interleave(slots, 0)  # (tokens * slots, d)
    index, weight = index.reshape(-1, 1), weight.reshape(-1, 1)
    if not _takes_one_slot(experts, hidden):
        index, weight = index.expand(-1, 2), torch.cat([weight, torch.zeros_like(weight)], -1)
    return experts(rows, index, weight).reshape(tokens, slots, -1)


_ONE_SLOT: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def _takes_one_slot(experts: torch.nn.Module, hidden: torch.Tensor) -> bool:
    """Whether the experts can be called with one slot a token.

    LongCat-Flash's cannot (they squeeze the slot dimension away); for such experts a second slot
    of weight 0 stands beside the first.
    """
    if experts not in _ONE_SLOT:
        index = torch.zeros(2, 1, dtype=torch.long, device=hidden.device)
        rows = hidden[:1].expand(2, -1)
        try:
            experts(rows, index, torch.zeros_like(index, dtype=hidden.dtype))
            _ONE_SLOT[experts] = True
        except (ValueError, IndexError, RuntimeError):
            _ONE_SLOT[experts] = False
    return _ONE_SLOT[experts]


def routed_sum_error(call: ExpertsCall) -> float:
    """Largest difference between the routed output and the weighted sum of experts, over its scale.

    Experts are called with weight 1 and weighted here, so that a module which puts the weight
    anywhere but on its output is found out: operators rely on the output being linear in it.
    """
    ones = torch.ones_like(call.weight)
    slots = slot_contributions(call.module, call.hidden, call.index, ones)
    total = (slots.float() * call.weight[..., None].float()).sum(1)
    routed = call.output.reshape(total.shape).float()
    return float((total - routed).abs().max() / routed.abs().max().clamp_min(1e-12))


def check_call(architecture: str, layer: int, call: ExpertsCall, probe: Probe) -> None:
    """Raise ContractError unless this experts call has the contract's meaning."""
    name = f"{architecture}, layer {layer}, {type(call.module).__name__} at '{call.path}'"
    if call.index.shape[0] != probe.n_tokens:
        raise ContractError(
            f"{name}: called with {call.index.shape[0]} rows for a document of {probe.n_tokens} "
            "tokens. One row a token, in order, was expected (no dropping, no reordering), so that "
            "(token, expert) names one thing. This model is refused."
        )
    if call.output.numel() % probe.n_tokens or call.output.numel() // probe.n_tokens < 1:
        raise ContractError(
            f"{name}: the output of shape {tuple(call.output.shape)} is not one row a token."
        )
    error = routed_sum_error(call)
    if not error <= _TOLERANCE.get(call.hidden.dtype, 1e-2):
        raise ContractError(
            f"{name}: the routed output is not the weighted sum of its experts' outputs (relative "
            f"difference {error:.1e}). Removing one expert by its weight would then not mean what it "
            "says, so this model is refused."
        )


def declared_moe_layers(config: Any, n_layers: int) -> list[int] | None:
    """MoE layer indices that a configuration declares, or None where it declares none we know.

    Reads the conventions of transformers: `mlp_layer_types`, `mlp_only_layers` with
    `decoder_sparse_step` (Qwen), `first_k_dense_replace` with `moe_layer_freq` (DeepSeek).
    """
    kinds = getattr(config, "mlp_layer_types", None)
    if isinstance(kinds, (list, tuple)) and len(kinds) == n_layers:
        return [i for i, kind in enumerate(kinds) if kind != "dense"]
    step = getattr(config, "decoder_sparse_step", None)
    if isinstance(step, int) and step > 0:
        dense = set(getattr(config, "mlp_only_layers", None) or [])
        return [i for i in range(n_layers) if i not in dense and (i + 1) % step == 0]
    first = getattr(config, "first_k_dense_replace", None)
    if isinstance(first, int):
        every = getattr(config, "moe_layer_freq", 1)
        every = every if isinstance(every, int) and every > 0 else 1
        return [i for i in range(n_layers) if i >= first and i % every == 0]
    return None
