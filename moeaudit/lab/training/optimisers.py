"""Who moves what: Muon for hidden matrices and experts, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .model import ROUTER
from .muon import Muon

_NOT_HIDDEN = ("embed_tokens.weight", "lm_head.weight", "shared_expert_gate.weight")
Rate = Callable[[str, Tensor], float]  # factor on the rate of a parameter, by its name


def kind_of(path: str, parameter: Tensor) -> str:
    """`router`, `other` (vectors, embeddings, head), `fused` (gate and up in one matrix) or `whole`."""
    if path.endswith(f"{ROUTER}.weight"):
        return "router"
    if parameter.ndim < 2 or path.endswith(_NOT_HIDDEN):
        return "other"
    return "fused" if path.endswith("gate_up_proj") else "whole"


def optimisers(
    model: torch.nn.Module,
    matrix_rate: float,
    vector_rate: float,
    router_rate: float,
    *,
    name: str = "muon",
    rate: Rate | None = None,
) -> list[torch.optim.Optimizer]:
    """The optimisers of a model, parameters that share tensors counted once.

    `matrix_rate`: hidden matrices and experts; `vector_rate`: embeddings, head, norms, biases; `router_rate`:
    routers. With `name="adamw"` the hidden matrices are AdamW's, too. `rate` is a factor on any one parameter's.
    """
    groups: dict[str, dict[float, list[Tensor]]] = {
        kind: {} for kind in ("whole", "fused", "router", "other")
    }
    for path, p in model.named_parameters():
        factor = 1.0 if rate is None else rate(path, p)
        groups[kind_of(path, p)].setdefault(factor, []).append(p)

    def of(kind: str, base: float, **more: int) -> list[dict]:
        return [
            {"params": params, "lr": base * factor, **more}
            for factor, params in groups[kind].items()
        ]

    matrices = [*of("whole", matrix_rate), *of("fused", matrix_rate, parts=2)]
    rest = [*of("other", vector_rate), *of("router", router_rate)]
    if name == "adamw":
        rest, matrices = [*rest, *of("whole", matrix_rate), *of("fused", matrix_rate)], []
    adam = torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [*([Muon(matrices, matrix_rate)] if matrices else []), adam]
