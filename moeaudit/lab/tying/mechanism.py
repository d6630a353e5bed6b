"""Expert Tying while a lab model is trained: the section `[mechanisms.tying]` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from moeaudit.errors import InputError, one_of
from moeaudit.stats.sets.groups import groups_of

from ..training.mechanism import Mechanism
from .groups import fused
from .tie import anatomy_of, tie

RATES = {"same": "that of other experts", "sqrt": "divided by the root of the number of sites"}


@dataclass(frozen=True)
class Tying(Mechanism):
    r"""Layers in groups of `group` share their experts from the first step on; see `moeaudit.lab.tie`.

    `rate="sqrt"` divides the learning rate of shared tensors by \(\sqrt g\), because the gradients of g sites add up
    (arXiv 2606.16825); "same" leaves it. An optimiser that normalises its step (Muon, AdamW) sees no larger gradient,
    and an independent replication found "same" the better one (marin-community/marin#8032).

    Raises InputError for groups that do not fit the model or overlap, layers of different shapes, an unknown rate.
    """

    name = "tying"

    group: Any = 2
    first: Any = 1
    last: Any = 1
    groups: Any = None
    rate_of_shared: str = "same"

    def __post_init__(self) -> None:
        one_of(self.rate_of_shared, RATES, "rate_of_shared")
        if self.groups is not None:
            groups_of(self.groups)

    def prepare(self, model: nn.Module, config: Any) -> None:  # noqa: ARG002
        anatomy = anatomy_of(model, "tying")
        groups = tie(model, self.group, self.first, self.last, groups=self.groups)  # type: ignore[arg-type]
        sites = {
            f"{anatomy[group[0]].experts_path}.{name}": len(group)
            for group in groups
            for name in fused(anatomy[group[0]])
        }
        object.__setattr__(self, "_sites", sites)  # of this model, and no setting

    def rate(self, name: str, parameter: Tensor) -> float:  # noqa: ARG002
        sites: dict[str, int] | None = getattr(self, "_sites", None)
        if sites is None:
            raise InputError(
                "The tying of this recipe was not made yet: prepare(model, config) comes before rates are asked for."
            )
        return sites.get(name, 1) ** -0.5 if self.rate_of_shared == "sqrt" else 1.0
