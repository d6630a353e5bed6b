"""The state of one training run, advanced step by step, saved and restored exactly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from .. import kernels
from ..configs import Settings, architecture
from .balance import load_balance, router_z
from .data import Mixture
from .muon import Muon

_NOT_HIDDEN = ("embed_tokens.weight", "lm_head.weight", "shared_expert_gate.weight")


@dataclass
class Routers:
    """Collects (logits, index) of every router during a forward pass, by decoder layer."""

    model: torch.nn.Module
    seen: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _handles: list[RemovableHandle] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, module in self.model.named_modules():
            if name.endswith("mlp.gate"):
                layer = int(name.split(".")[-3])
                self._handles.append(module.register_forward_hook(self._keep(layer)))

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _keep(self, layer: int) -> Callable[..., None]:
        def hook(
            _module: torch.nn.Module, _args: Any, output: tuple[Tensor, Tensor, Tensor]
        ) -> None:
            logits, _weights, index = output
            self.seen[layer] = (logits.float(), index)

        return hook


def quiet() -> None:
    """Keep transformers from printing progress bars and advice, for commands of this room."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build(name: str, vocabulary: int, seed: int) -> Any:
    """A freshly initialised model that trains with the kernels of this room.

    Projections that write to the residual stream start smaller, by 1 / sqrt(2 layers).
    """
    from transformers import AutoModelForCausalLM

    kernels.register()
    config = architecture(name, vocabulary)
    config.use_cache = False
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=kernels.ATTENTION, experts_implementation=kernels.EXPERTS
    )
    for path, module in model.named_modules():
        if path.endswith("mlp.gate"):  # routers stay in float32, as in the models' own training
            module.forward = torch.autocast("cpu", enabled=False)(module.forward)
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = kernels.norm_forward(module)
    shrink = (2 * config.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for path, p in model.named_parameters():
            if path.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
                p.mul_(shrink)
    return model


def optimisers(model: torch.nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and experts, AdamW for everything else."""
    groups: dict[str, list[Tensor]] = {"whole": [], "fused": [], "router": [], "other": []}
    for path, p in model.named_parameters():
        if path.endswith("mlp.gate.weight"):
            groups["router"].append(p)
        elif p.ndim < 2 or path.endswith(_NOT_HIDDEN):
            groups["other"].append(p)
        else:
            groups["fused" if path.endswith("gate_up_proj") else "whole"].append(p)
    s = settings
    return [
        Muon([{"params": groups["whole"]}, {"params": groups["fused"], "parts": 2}], s.matrix_rate),
        torch.optim.AdamW(
            [
                {"params": groups["other"], "lr": s.vector_rate},
                {"params": groups["router"], "lr": s.router_rate},
            ],
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=True,
        ),
    ]


class Training:
    """The state of one run: model, optimisers, step. `advance` makes one step."""

    def __init__(self, name: str, vocabulary: int, settings: Settings, low: bool = True) -> None:
        self.name, self.settings = name, settings
        self.model = build(name, vocabulary, settings.seed)
        self.routers = Routers(self.model)
        self.optimisers = optimisers(self.model, settings)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]
        self.step = 0
        self.seconds = 0.0
        self._low = low

    def advance(self, mixture: Mixture) -> dict[str, Any]:
        """One optimiser step on one batch; returns what the log records of it."""
        start = time.perf_counter()
        s = self.settings
        length = s.length(self.step)
        batch = torch.from_numpy(
            mixture.batch(self.step, s.rows_per_step * s.short // length, length)
        )
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._low):
            hidden = self.model.model(input_ids=batch[:, :-1], use_cache=False).last_hidden_state
            nll = kernels.head_loss(
                hidden.flatten(0, 1), self.model.lm_head.weight, batch[:, 1:].reshape(-1)
            )
        pairs = list(self.routers.seen.values())
        balance = torch.stack([load_balance(*p) for p in pairs]).mean()
        z = torch.stack([router_z(logits) for logits, _ in pairs]).mean()
        (nll + s.balance_at(self.step) * balance + s.z * z).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * s.rate(self.step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.seconds += time.perf_counter() - start
        return {
            "step": self.step,
            "nll": round(nll.item(), 5),
            "balance": round(balance.item(), 4),
            "z": round(z.item(), 3),
            "seconds": round(self.seconds, 2),
        }

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on, apart from the text."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state` of a run of the same model and settings."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
