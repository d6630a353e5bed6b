"""Zero experts from the first step of training on: `[mechanisms.zero_experts]` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from moeaudit.errors import InputError, one_of
from moeaudit.models.experts.zero import RULES
from moeaudit.seeds import check_seed

from ..training.mechanism import Batch, Mechanism, Routed
from .add import add_zero_experts
from .loss import group_loss


@dataclass(frozen=True)
class ZeroExperts(Mechanism):
    """`count` zero experts in every layer, and the group loss with `weight` w and coefficient `alpha`.

    `weights` as in `add_zero_experts`. Raises InputError for settings that make no sense, ModelError for a
    router that cannot be extended.
    """

    name: ClassVar[str] = "zero_experts"

    count: int = 8
    weight: float = 2.0
    alpha: float = 0.1
    weights: str = "own"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        one_of(self.weights, tuple(RULES), "[mechanisms.zero_experts] weights")
        if isinstance(self.alpha, bool) or not self.alpha >= 0:
            raise InputError(
                f"[mechanisms.zero_experts] alpha = {self.alpha!r}: the coefficient of the group loss was expected, 0 "
                "or more."
            )

    def prepare(self, model: nn.Module, config: Any) -> None:  # noqa: ARG002
        add_zero_experts(
            model, self.count, weights=self.weights, weight=self.weight, seed=self.seed
        )

    def loss(self, routed: list[Routed], batch: Batch) -> Tensor | None:  # noqa: ARG002
        """The group loss, a mean over layers."""
        each = [
            group_loss(r.probabilities, r.index, self.count, self.weight, self.alpha)
            for r in routed
        ]
        return torch.stack(each).mean() if each else None
