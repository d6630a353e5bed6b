"""The state of one training run, advanced step by step, saved and restored exactly."""

from __future__ import annotations

import time
from typing import Any

import torch

from ..training import kernels
from ..training.balance import load_balance, router_z
from ..training.data import Mixture
from ..training.model import Routers, build
from ..training.optimisers import optimisers
from ..training.resume import Resumable
from .configs import Settings, architecture


class Training(Resumable):
    """The state of one run: model, optimisers, step. `advance` makes one step."""

    def __init__(self, name: str, vocabulary: int, settings: Settings, low: bool = True) -> None:
        self.name, self.settings = name, settings
        self.model = build(architecture(name, vocabulary), settings.seed)
        self.routers = Routers(self.model)
        s = settings
        self.optimisers = optimisers(self.model, s.matrix_rate, s.vector_rate, s.router_rate)
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
