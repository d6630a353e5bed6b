"""An active expert's weight turned up or down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from moeaudit.errors import InputError
from moeaudit.models import MoELayer

from .base import BaseOperator
from .routing import Edits, Routing


@dataclass(frozen=True)
class Scale(BaseOperator):
    r"""Multiply one active expert's weight by `factor`; the others stay as they are.

    $y' = y + (c - 1)\, w_r E_r(x)$. `Scale(0.0)` is `Zero()`, `Scale(1.0)` changes nothing, a factor above 1
    says what more of the expert would do, a negative one turns its output around: how an effect grows
    with the dose. One row for each active expert. Raises InputError for a factor that is not finite.
    """

    factor: float

    tells_routing = False

    def __post_init__(self) -> None:
        number = isinstance(self.factor, (int, float)) and not isinstance(self.factor, bool)
        if not number or not math.isfinite(self.factor):
            raise InputError(
                f"Scale({self.factor!r}): a finite number was expected, such as Scale(0.5) for half the weight."
            )

    @property
    def name(self) -> str:
        return f"scale by {self.factor:g}"

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        positions, top_k = routing.index.shape
        rank = torch.arange(top_k, device=routing.index.device).expand(positions, top_k)
        return Edits(rank, routing.index[..., None], (self.factor - 1) * routing.weight[..., None])
