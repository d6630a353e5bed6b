"""Another expert enters by the model's own rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from moeaudit.errors import InputError
from moeaudit.models import MoELayer
from moeaudit.models.router import Scores, answer_without, require_enough, require_reproduced

from .base import BaseOperator
from .difference import edits_by_difference
from .routing import Edits, Routing


@dataclass(frozen=True)
class Reroute(BaseOperator):
    r"""Ban one active expert from the choice; the router's next choice enters by the model's own rule.

    $y' = \sum_{s} w'_s E_{i'_s}(x)$ with $(i', w') = \mathrm{router}(x \mid e_r\ \text{banned})$: top-k over
    the other experts, group limits, correction bias, normalisation and scaling as the model has them.
    For OLMoE the others keep their weights and the entering expert brings its own probability; where
    weights are normalised over the chosen (Mixtral, gpt-oss) the others' weights change as well.

    With `scores="kept"` the others' scores are what the full router computed, the banned expert
    included in its softmax: what happens to this token when the expert may not be used. With
    `scores="remaining"` the banned expert is out of the softmax: what a checkpoint without it does.

    Columns: `entered` and `entered_weight`, the expert that came in and its weight (the one of the
    largest weight, where banning one lets in several, as group limits may). Raises InputError where
    no expert is left to enter, ContractError for a router that cannot be run on its own.
    """

    scores: Scores = "kept"

    def __post_init__(self) -> None:
        if self.scores not in ("kept", "remaining"):
            raise InputError(
                f"Reroute(scores={self.scores!r}): 'kept' (as the full router computed them) or 'remaining' "
                "(softmax over the experts that remain) was expected."
            )

    @property
    def name(self) -> str:
        return "reroute" if self.scores == "kept" else "reroute (remaining scores)"

    def rows(self, layer: MoELayer) -> int:
        require_enough(layer, banned=1)
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        layer, (p, k) = routing.layer, routing.index.shape
        require_enough(layer, banned=1)
        require_reproduced(layer, routing.hidden, routing.index, routing.weight)
        banned = torch.nn.functional.one_hot(routing.index, layer.num_experts).bool()
        index, weight = answer_without(
            layer, routing.hidden.repeat_interleave(k, 0), banned.flatten(0, 1), self.scores
        )
        index = index.view(p, k, k)
        weight = weight.to(routing.weight.dtype).view(p, k, k)
        expert, change = edits_by_difference(routing, index, weight)
        was_active = (index[..., None] == routing.index[:, None, None]).any(-1)
        largest = weight.masked_fill(was_active, -torch.inf).argmax(-1, keepdim=True)
        return Edits(
            torch.arange(k, device=index.device).expand(p, k),
            expert,
            change,
            about={
                "entered": index.gather(-1, largest).squeeze(-1).to(torch.int16),
                "entered_weight": weight.gather(-1, largest).squeeze(-1).float(),
            },
        )
