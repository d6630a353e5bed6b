"""The router contract: what must hold before an expert's removal means anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from moeaudit.errors import ContractError

from ..anatomy import Kept
from ..precision import full, not_memory, rounding


@dataclass
class ExpertsCall:
    """One call `experts(hidden, index, weight)` seen during a forward."""

    path: str
    module: torch.nn.Module
    hidden: torch.Tensor
    index: torch.Tensor
    weight: torch.Tensor
    output: torch.Tensor
    # Each slot's own output, called with weight 1 while the layer's weights are in place; or why not.
    slots: torch.Tensor | Exception


@dataclass
class Probe:
    """A recorded forward pass over one document of `n_tokens` tokens."""

    n_tokens: int
    logits: torch.Tensor
    calls: list[ExpertsCall] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    # Router-like outputs: path -> tensors the module returned, in order.
    outputs: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)


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


_ONE_SLOT: Kept[bool] = Kept()


def _takes_one_slot(experts: torch.nn.Module, hidden: torch.Tensor) -> bool:
    """Whether the experts can be called with one slot a token.

    LongCat-Flash's cannot (they squeeze the slot dimension away); for such experts a second slot
    of weight 0 stands beside the first.
    """
    known = _ONE_SLOT.of(experts)
    if known is None:
        index = torch.zeros(2, 1, dtype=torch.long, device=hidden.device)
        rows = hidden[:1].expand(2, -1)
        try:
            experts(rows, index, torch.zeros_like(index, dtype=hidden.dtype))
            known = True
        except (ValueError, IndexError, RuntimeError) as error:
            not_memory(error, f"running {type(experts).__name__} on two tokens")
            known = False
        _ONE_SLOT.keep(experts, known)
    return known


def unexplained(
    slots: torch.Tensor,  # (tokens, slots, d_model), each expert's own output, called with weight 1
    weight: torch.Tensor,  # (tokens, slots)
    routed: torch.Tensor,  # (tokens, d_model)
) -> tuple[float, float]:
    """How far the routed output is from the weighted sum of its slots, and what rounding explains.

    Both are shares of the largest sum of absolute contributions: rounding follows what is added up,
    not what is left when contributions cancel. Experts called with weight 1 and weighted here show
    a module which puts the weight anywhere but on its output.
    """
    each = full(slots) * full(weight)[..., None]
    off = (each.sum(1) - full(routed)).abs().max()
    size = each.abs().sum(1).max().clamp_min(torch.finfo(each.dtype).tiny)
    return float(off / size), rounding(routed).output


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
    if isinstance(call.slots, Exception):
        raise call.slots
    error, allowed = unexplained(call.slots, call.weight, call.output.reshape(len(call.slots), -1))
    if not error <= allowed:
        raise ContractError(
            f"{name}: the routed output is not the weighted sum of its experts' outputs (relative "
            f"difference {error:.1e}; rounding explains {allowed:.1e}). Removing one expert by its "
            "weight would then not mean what it says, so this model is refused."
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
