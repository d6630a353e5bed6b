"""What a walk needs to know, and what it brings back."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int

from moeaudit.models import Model, MoELayer

from ..operators.draws import document_key
from ..operators.routing import Edits, Operator, Routing, edited_answer, rank_order, rows_by_layer
from ..outcomes.compare import Measure, Outcomes
from ..outcomes.linear import LinearHead
from .budget import Budget
from .layout import Layout
from .several.sample import Sample


@dataclass
class WalkPlan:
    """What does not change between documents: where, what, and how rows are born and carried."""

    model: Model
    layers: list[MoELayer]
    operator: Operator
    layout: Layout
    # Per MoE layer: by how much the routed output enters the layer's output, or None where it
    # passes through more than an addition and the layer itself must be run again.
    residual_scale: dict[int, float | None]
    # Outcomes besides delta NLL, KL and flip, by column name.
    extra: dict[str, Measure] = field(default_factory=dict)
    # Whether the most probable token after each edit is kept.
    tops: bool = False
    # Tokens after the edited one that each row carries along; None for all there are.
    horizon: int | None = 0
    # Whether later layers keep the clean router's answers.
    frozen: bool = False
    # Whether tables say which experts did the work after the edit.
    keep_routing: bool = False
    # Which of the rows are made; None for all of them.
    sample: Sample | None = None
    # Whether layers can be called one by one for several documents in turn (`several/together.py`).
    driven: bool = False
    # Lengths of texts in which a row ended elsewhere and no layer was at fault (`checks/departure`).
    cleared: list[int] = field(default_factory=list)
    # The head where it is one matrix, None where not (`head/linear`); nothing before it was looked at.
    head: list[LinearHead | None] = field(default_factory=list)
    # The largest blocks held at once; None for what suits the model's device.
    budget: Budget = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.budget is None:
            self.budget = Budget.of(self.model.device)

    @property
    def measured(self) -> tuple[dict[str, Measure], bool, int]:
        """How outcomes are measured: further ones, whether later tokens are looked at, logits at once."""
        return self.extra, self.horizon != 0, self.budget.compared

    @property
    def rows(self) -> int:
        """Counterfactuals of one position, all layers together."""
        return sum(rows_by_layer(self.operator, self.layers).values())

    @staticmethod
    def document(ids: Int[torch.Tensor, "1 tokens"]) -> int:
        """Which document it is, for operators that draw at random."""
        return document_key(ids)

    def steps(self, tokens: int, first: int) -> int:
        """Tokens that each row carries, its own included, when the first edit is at `first`."""
        left = max(0, tokens - 2 - first)
        return 1 + (left if self.horizon is None else min(self.horizon, left))

    def rows_at(self, positions: int, targets: int) -> int:
        """Rows of so many positions of a text with `targets` of them at most, pass-through rows included."""
        if self.sample is None:
            return positions * (1 + self.rows)
        most = min(positions, self.sample.most(targets))
        return positions + most * self.rows

    def positions_at_once(self, steps: int = 1, targets: int | None = None) -> int:
        """How many positions' rows fit in memory together; all of `targets` where these are known to fit."""
        fit = self.rows_at_once(steps)
        if (
            self.sample is not None
            and targets is not None
            and self.rows_at(targets, targets) <= fit
        ):
            return targets
        return max(1, fit // max(1, self.rows))

    @property
    def streams(self) -> bool:
        """Whether decoder layers' weights come and go, so that each is better used for many texts."""
        layers = self.model.anatomy.decoder_layers
        return any(p.is_meta for layer in layers for p in layer.parameters())

    def rows_of(self, tokens: int) -> int:
        """Rows of one token that all edits of a text of so many tokens carry, pass-through rows included."""
        return self.rows_at(tokens - 1, tokens - 1) * self.steps(tokens, 0)

    def rows_at_once(self, steps: int = 1) -> int:
        """How many rows of `steps` tokens fit in memory together."""
        width = int(self.model.hf.config.get_text_config().hidden_size)
        return self.budget.residuals // (width * 4 * steps)


@dataclass
class Walked:
    """Rows of one document, position-major; columns are counterfactuals in (layer, row) order.

    Of a sample every row stands for itself: one row at each of `positions`, with a layer of its own.
    """

    positions: Int[torch.Tensor, " positions"]
    layer: Int[torch.Tensor, " rows"] | Int[torch.Tensor, "positions 1"]
    rank: Int[torch.Tensor, "positions rows"]
    expert: Int[torch.Tensor, "positions rows"]
    weight: Float[torch.Tensor, "positions rows"]
    outcomes: Outcomes
    about: dict[str, torch.Tensor] = field(default_factory=dict)
    # How far rows that were carried without an edit end from the clean forward, nats.
    drift: float = 0.0
    # The same by position, where rows were carried.
    drifts: Float[torch.Tensor, " positions"] | None = None
    # Which engine computed these rows, in words, and whether it is the slower of two.
    engine: str = ""
    slower: bool = False


def walked(
    plan: WalkPlan,
    positions: torch.Tensor,
    answers: list[tuple[Routing, Edits]],
    outcomes: Outcomes,
    drift: float | Float[torch.Tensor, " positions"],
) -> Walked:
    """The rows of all layers side by side."""
    drifts = drift if isinstance(drift, torch.Tensor) else None
    named = [edits.named(routing) for routing, edits in answers]
    about = joined([edits.about for _, edits in answers])
    if plan.keep_routing:
        about |= routing_after(answers)
    return Walked(
        positions=positions,
        layer=torch.cat([torch.full((e.rank.shape[1],), r.layer.index) for r, e in answers]),
        rank=torch.cat([edits.rank for _, edits in answers], 1),
        expert=torch.cat([expert for expert, _ in named], 1),
        weight=torch.cat([weight for _, weight in named], 1),
        outcomes=outcomes,
        about=about,
        drift=float(drift if drifts is None else drifts.max()),
        drifts=drifts,
    )


def joined(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Further columns of all layers side by side."""
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


def routing_after(
    answers: list[tuple[Routing, Edits]], *, flat: bool = False
) -> dict[str, torch.Tensor]:
    """Columns `after_expert_j` and `after_weight_j`: who works after the edit, largest weight first.

    Expert -1 with weight 0 fills places that nobody takes. Layers stand side by side, or `flat`: row below row.
    """
    sides = [_after(routing, edits) for routing, edits in answers]
    if flat:
        sides = [(i.flatten(0, 1)[:, None], w.flatten(0, 1)[:, None]) for i, w in sides]
    slots, dim = max(index.shape[-1] for index, _ in sides), int(not flat)
    index = torch.cat([_wide(i, slots, -1) for i, _ in sides], dim)
    weight = torch.cat([_wide(w, slots, 0) for _, w in sides], dim)
    used = int((index >= 0).sum(-1).max())
    columns: dict[str, torch.Tensor] = {}
    for j in range(used):
        columns[f"after_expert_{j}"] = index[..., j].to(torch.int16)
        columns[f"after_weight_{j}"] = weight[..., j].float()
    return columns


def _after(routing: Routing, edits: Edits) -> tuple[torch.Tensor, torch.Tensor]:
    p, rows, changes = edits.expert.shape
    index, weight = edited_answer(
        routing.index.repeat_interleave(rows, 0),
        routing.weight.repeat_interleave(rows, 0),
        edits.expert.reshape(-1, changes),
        edits.change.reshape(-1, changes),
    )
    index, weight = rank_order(torch.where(weight == 0, -1, index), weight)
    return index.view(p, rows, -1), weight.view(p, rows, -1)


def _wide(values: torch.Tensor, slots: int, fill: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, slots - values.shape[-1]), value=fill)
