"""A recipe's training, step by step: model, optimisers, losses; saved and restored exactly."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..recipes.architecture import configuration
from ..recipes.whole import Recipe
from . import kernels
from .balance import grouped_balance, router_entropy, router_z
from .data import Mixture
from .mechanism import Batch, Mechanism, Routed
from .model import dress, initialised, on_cpu
from .optimisers import optimisers
from .resume import Resumable
from .routing import Routing
from .scopes import groups_of


class Steps(Resumable):
    """The state of one training; `advance` makes one step and tells what the log keeps of it."""

    def __init__(self, recipe: Recipe, vocabulary: int, device: str = "cpu") -> None:
        self.recipe, self.device = recipe, device
        train, self._mechanisms = recipe.train, recipe.mechanisms
        self.model = initialised(configuration(recipe.model, vocabulary), train.seed, device)
        for mechanism in self._mechanisms:
            mechanism.prepare(self.model, self.model.config)
        dress(self.model, device)
        self.model.to(device)
        self.routing = Routing(self.model, self._mechanisms)
        self.optimisers = optimisers(
            self.model,
            train.matrix_rate,
            train.vector_rate,
            train.router_rate,
            name=train.optimiser,
            rate=self._rate if self._mechanisms else None,
        )
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]
        self.step, self.seconds = 0, 0.0

    def _rate(self, name: str, parameter: Tensor) -> float:
        factor = 1.0
        for mechanism in self._mechanisms:
            factor *= mechanism.rate(name, parameter)
        return factor

    def batch(self, mixture: Mixture) -> tuple[Batch, Tensor]:
        """What the next step reads, and the token that follows each."""
        train = self.recipe.train
        ids, document = mixture.read(self.step, train.rows, train.length)
        share = mixture.rows_of_domain(train.rows)
        domain = [name for name in mixture.domains for _ in range(share)]
        read = torch.from_numpy(ids).to(self.device)
        of = torch.from_numpy(document).to(self.device)
        return Batch(read[:, :-1], domain, of[:, :-1]), read[:, 1:]

    def advance(self, mixture: Mixture) -> dict[str, Any]:
        """One optimiser step; losses in nats. Where there is no router, its numbers are None."""
        began = time.perf_counter()
        train, balance = self.recipe.train, self.recipe.balance
        batch, target = self.batch(mixture)
        self.routing.batch = batch
        nll, language = self._nll(batch.ids, target.reshape(-1))
        routed = self.routing.routed()
        told: dict[str, float | None] = {"balance": None, "global_balance": None}
        told |= {"entropy": None, "z": None, "added": None}
        total = language
        if routed:
            group = groups_of(batch, balance, train.seed, self.step)
            even = _mean([grouped_balance(r.probabilities, r.index, group) for r in routed])
            z = _mean([router_z(r.logits) for r in routed])
            if balance.scope != "none":
                total = total + balance.coefficient * even
            total = total + train.z * z
            told |= {"balance": even.item(), "z": z.item()} | _whole(routed)
        added = [x for m in self._mechanisms if (x := m.loss(routed, batch)) is not None]
        if added:
            told["added"] = sum(x.item() for x in added)
            total = total + torch.stack(added).sum()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip)
        factor = train.factor(self.step)
        for optimiser in self.optimisers:
            for each in optimiser.param_groups:
                each["lr"] = each["initial_lr"] * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.seconds += time.perf_counter() - began
        numbers = {k: None if v is None else round(v, 5) for k, v in told.items()}
        return {
            "step": self.step,
            "tokens": self.step * train.rows * train.length,
            "nll": round(nll.item(), 5),
            **numbers,
            "seconds": round(self.seconds, 2),
        }

    def _nll(self, ids: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of the step's tokens, and what is trained on: the same unless a mechanism weighs them."""
        kind = torch.device(self.device).type
        weighing = [m for m in self._mechanisms if type(m).of_tokens is not Mechanism.of_tokens]
        with torch.autocast(kind, dtype=torch.bfloat16):
            hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state.flatten(
                0, 1
            )
            head = self.model.lm_head.weight
            if on_cpu(self.device) and not weighing:
                mean = kernels.head_loss(hidden, head, target)
                return mean, mean
            logits = torch.nn.functional.linear(hidden, head)
        if not weighing:
            mean = torch.nn.functional.cross_entropy(logits.float(), target)
            return mean, mean
        each = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
        mean, done = each.mean(), self.step / self.recipe.train.steps
        weighed = [x for m in weighing if (x := m.of_tokens(each, done)) is not None]
        return mean, weighed[0] if weighed else mean


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


@torch.no_grad()
def _whole(routed: list[Routed]) -> dict[str, float]:
    """Balance over the whole step and entropy of the router, means over layers, whatever the loss is."""
    one = torch.zeros(len(routed[0].index), dtype=torch.long, device=routed[0].index.device)
    even = [grouped_balance(r.probabilities, r.index, one) for r in routed]
    spread = [router_entropy(r.probabilities) for r in routed]
    return {"global_balance": _mean(even).item(), "entropy": _mean(spread).item()}
