"""Training a classifier mixture by one of four objectives, and reading off what it says.

The schedule is that of arXiv 2606.20544: AdamW at 1e-3 with weight decay 1e-4 and a cosine, and the
plain loss for the first 40 % of the epochs, so that experts exist before an adversary picks on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from moeaudit.errors import InputError
from moeaudit.lab.training.balance import load_balance

from .robust import filtered, sample_losses, tilted, worst_case
from .soft_moe import ClassifierMoE, Mixed, configurations

Objective = Literal["vanilla", "tilted", "filtered", "bounded"]
OBJECTIVES: tuple[Objective, ...] = ("vanilla", "tilted", "filtered", "bounded")


@dataclass(frozen=True)
class RobustSettings:
    """What a training run depends on besides model, data and seed.

    `strength` belongs to tilted and filtered, `radius` (nats) to bounded. `balance` weighs the router's
    load-balance loss: published soft mixtures have none, hard ones lose experts without it.
    """

    objective: Objective = "vanilla"
    strength: float = 2.0
    radius: float = 0.5
    epochs: int = 50
    warm_up: float = 0.4
    batch: int = 128
    rate: float = 1e-3
    decay: float = 1e-4
    balance: float = 0.0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(
                f"No objective is called {self.objective!r}; there are {', '.join(OBJECTIVES)}."
            )
        if not (self.strength >= 0 and self.radius >= 0 and self.balance >= 0):
            raise InputError(
                "The strength of a tilt, the KL radius and the weight of the balance loss are 0 or more, "
                f"not {self.strength}, {self.radius} and {self.balance}."
            )
        if self.epochs < 1 or self.batch < 1 or not 0 <= self.warm_up <= 1:
            raise InputError(
                "A run has at least 1 epoch, at least 1 sample a batch and a warm-up between 0 and 1 of "
                f"its epochs, not {self.epochs}, {self.batch} and {self.warm_up}."
            )


@dataclass(frozen=True)
class Answers:
    """What a mixture said about a data set; probabilities as logarithms, in float64."""

    log_probs: Float[np.ndarray, "samples classes"]
    routing: Float[np.ndarray, "samples experts"]
    expert_log_probs: Float[np.ndarray, "samples experts classes"]


def seeded(build: Callable[[], ClassifierMoE], seed: int) -> ClassifierMoE:
    """A model initialised from `seed`, with torch's global random state left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    model: ClassifierMoE,
    inputs: Tensor,
    labels: Int[Tensor, " samples"],
    settings: RobustSettings,
    seed: int,
) -> list[float]:
    """Train in place; returns the mean objective of every epoch, in nats.

    The order of the samples depends on `seed` alone; nothing else is random. The last batch of an
    epoch holds what is left.
    """
    _check(model, inputs, labels)
    order = torch.Generator().manual_seed(seed)
    n, s = len(labels), settings
    steps = s.epochs * math.ceil(n / s.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=s.rate, weight_decay=s.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    plain = round(s.warm_up * s.epochs)
    model.train()
    history = []
    for epoch in range(s.epochs):
        total = 0.0
        for rows in torch.randperm(n, generator=order).split(s.batch):
            mixed, y = model(inputs[rows]), labels[rows]
            value = objective(mixed, y, s, "vanilla" if epoch < plain else s.objective)
            loss = value
            if s.balance:
                loss = loss + s.balance * _balance(mixed)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += value.item() * len(rows)
        history.append(total / n)
    return history


def objective(
    mixed: Mixed, labels: Int[Tensor, " samples"], settings: RobustSettings, kind: Objective
) -> Float[Tensor, ""]:
    """The value of one objective on one batch.

    For `bounded` the configurations are the ordered two largest router weights that occur in the
    batch, with their shares of the batch as the base.
    """
    if kind == "filtered":
        return filtered(mixed, labels, settings.strength)
    losses = sample_losses(mixed, labels)
    if kind == "vanilla":
        return losses.mean()
    if kind == "tilted":
        return tilted(losses, settings.strength)
    cells = configurations(mixed.router_logits.detach())
    names, place = torch.unique(cells, return_inverse=True)
    return worst_case(losses, place, len(names), settings.radius)


def _balance(mixed: Mixed) -> Float[Tensor, ""]:
    return load_balance(mixed.router_logits, mixed.router_logits.argmax(-1, keepdim=True))


def predict(model: ClassifierMoE, inputs: Tensor, batch: int = 8192) -> Answers:
    """The model's answers to `inputs`, in order and without gradients."""
    model.eval()
    with torch.no_grad():
        parts = [model(part) for part in inputs.split(batch)]

    def join(name: str) -> np.ndarray:
        return torch.cat([getattr(p, name) for p in parts]).double().numpy()

    return Answers(join("log_probs"), join("routing"), join("expert_log_probs"))


def _check(model: ClassifierMoE, inputs: Tensor, labels: Tensor) -> None:
    if not len(labels) or len(labels) != len(inputs):
        raise InputError(
            f"Training needs one label for each sample; there are {len(inputs)} samples and "
            f"{len(labels)} labels."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= model.classes:
        raise InputError(
            f"Labels run from 0 to {model.classes - 1} in this model; there are labels from "
            f"{int(labels.min())} to {int(labels.max())}."
        )
