"""A set of experts taken out of several layers together: a pruned model, without pruning it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer
from moeaudit.models.anatomy import Anatomy
from moeaudit.models.router import Scores, answer_without, named_experts, require_enough

from ..routing import Edits, Routing
from .base import WholeModel


@dataclass(frozen=True, eq=False)
class Without(WholeModel):
    r"""Take a set of experts out of several layers, at every position: what a pruned model predicts.

    `experts` maps decoder layers to experts, `{3: [0, 5], 4: [1]}`. With `rule="absent"` the router cannot
    choose them and others enter by the model's own rule; `scores="remaining"` takes them out of the
    softmax too, which is the checkpoint without them, `scores="kept"` leaves the others' scores as the
    full router computed them. With `rule="zero"` the choice stays and their weights become 0:
    $y' = \sum_{s:\, i_s \notin D} w_s E_{i_s}(x)$ in every layer named.

    One row for each position, with layer, rank and expert -1; the weight is the gate weight that
    fell on the set in the whole model at this position, summed over layers.

    Raises InputError for layers or experts that do not exist, an empty set, or (absent) fewer than
    top-k experts left; ContractError for a router that cannot be made to choose others.
    """

    experts: Mapping[int, Iterable[int]]
    scores: Scores = field(default="remaining", kw_only=True)
    rule: Literal["absent", "zero"] = field(default="absent", kw_only=True)

    def __post_init__(self) -> None:
        if self.rule not in ("absent", "zero") or self.scores not in ("kept", "remaining"):
            raise InputError(
                f"Without(scores={self.scores!r}, rule={self.rule!r}): scores 'remaining' or 'kept' and rule 'absent' "
                "or 'zero' were expected."
            )
        named = {i: tuple(sorted(set(gone))) for i, gone in named_experts(self.experts).items()}
        named = {i: gone for i, gone in named.items() if gone}
        if not named:
            raise InputError(
                "Without() names no expert. Name some, such as Without({3: [0, 5], 4: [1]}); to do nothing "
                "needs no operator."
            )
        object.__setattr__(self, "experts", named)

    @property
    def name(self) -> str:
        count = sum(len(tuple(gone)) for gone in self.experts.values())
        how = "zeroed" if self.rule == "zero" else f"absent, scores {self.scores}"
        return f"{count} experts of {len(self.experts)} layers ({how})"

    def __repr__(self) -> str:
        return f"Without({self.experts}, scores={self.scores!r}, rule={self.rule!r})"

    @classmethod
    def restored(cls, arguments: Mapping[str, Any], held_out: Any) -> Without:  # noqa: ARG003
        experts = {int(layer): gone for layer, gone in arguments["experts"].items()}
        return cls(experts, scores=arguments["scores"], rule=arguments["rule"])

    def edits(self, routing: Routing) -> Edits:
        """Not to be had: the edit is of the whole model. Raises InputError."""
        raise InputError(
            f"{self.name!r} is an edit of every position in layers {list(self.experts)}, so it is no edit of "
            f"single positions in layer {routing.layer.index}. Give it to ablate(), or use Zero() or Reroute()."
        )

    def layers(self, anatomy: Anatomy, asked: Iterable[int] | None = None) -> list[MoELayer]:
        """The layers that are edited. Raises InputError where one, or one of its experts, does not exist,
        where too few experts are left, or where `asked` leaves one of the layers out."""
        layers = anatomy.select(list(self.experts))
        left_out = set() if asked is None else set(self.experts) - set(asked)
        if left_out:
            raise InputError(
                f"{self.name!r} names layers {list(self.experts)} itself, and layers {sorted(left_out)} are not among "
                "those that were asked for. Leave `layers` out."
            )
        for layer in layers:
            gone = tuple(self.experts[layer.index])
            wrong = [e for e in gone if not 0 <= e < layer.num_experts]
            if wrong:
                raise InputError(
                    f"{layer.architecture}: expert {wrong[0]} does not exist in layer {layer.index}, which has experts "
                    f"0 to {layer.num_experts - 1}. Name some of those."
                )
            if self.rule == "absent":
                require_enough(layer, len(gone))
        return layers

    def answer(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],
        index: Int[torch.Tensor, "tokens top_k"],
        weight: Float[torch.Tensor, "tokens top_k"],
        document: int = 0,  # noqa: ARG002
    ) -> tuple[Int[torch.Tensor, "tokens top_k"], Float[torch.Tensor, "tokens top_k"]]:
        """What stands in place of a layer's answer, slots in the model's own order."""
        if self.rule == "zero":
            return index, weight.masked_fill(self.among(layer, index), 0.0)
        banned = torch.zeros(layer.num_experts, dtype=torch.bool, device=hidden.device)
        banned[list(self.experts[layer.index])] = True
        return answer_without(layer, hidden, banned.expand(len(hidden), -1), self.scores)

    def removed(
        self,
        layer: MoELayer,
        hidden: Float[torch.Tensor, "tokens d_model"],  # noqa: ARG002
        index: Int[torch.Tensor, "tokens top_k"],
        weight: Float[torch.Tensor, "tokens top_k"],
        document: int = 0,  # noqa: ARG002
    ) -> Float[torch.Tensor, " tokens"]:
        """The gate weight that fell on the set."""
        return (self.among(layer, index) * weight).sum(-1)

    def among(self, layer: MoELayer, index: torch.Tensor) -> torch.Tensor:
        """Which slots hold one of the experts that go."""
        gone = torch.tensor(list(self.experts[layer.index]), device=index.device)
        return torch.isin(index, gone)
