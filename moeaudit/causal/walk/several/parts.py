"""A walk in several, each with some of the rows, where the rows of one position do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad

from moeaudit.models import MoELayer

from ...operators.routing import Edits, Operator, Routing, later_layers
from ...outcomes.compare import Outcomes
from ..plan import Walked, WalkPlan


@dataclass(frozen=True)
class SomeRows:
    """An operator less some of its rows: `kept` by decoder layer index."""

    operator: Operator
    kept: Mapping[int, slice]

    @property
    def name(self) -> str:
        return self.operator.name

    @property
    def scope(self) -> Any:
        return self.operator.scope

    def to_dict(self) -> dict[str, Any]:
        return self.operator.to_dict()

    def rows(self, layer: MoELayer) -> int:
        here = self.kept[layer.index]
        return here.stop - here.start

    def later(self, layer: int) -> tuple[int, ...]:
        return later_layers(self.operator, layer)

    def edits(self, routing: Routing) -> Edits:
        whole, here = self.operator.edits(routing), self.kept[routing.layer.index]
        subject = whole.subject
        return Edits(
            whole.rank[:, here],
            whole.expert[:, here],
            whole.change[:, here],
            vector=None if whole.vector is None else whole.vector[:, here],
            about={name: column[:, here] for name, column in whole.about.items()},
            subject=None if subject is None else (subject[0][:, here], subject[1][:, here]),
        )


def parts_of(plan: WalkPlan, steps: int) -> list[WalkPlan]:
    """The plan itself, or several with consecutive rows of it that fit the budget one after the other."""
    # One of the rows that fit is the pass-through row, which every walk has of its own.
    most = max(1, plan.rows_at_once(steps) - 1)
    if plan.rows <= most:
        return [plan]
    parts: list[WalkPlan] = []
    kept: dict[int, slice] = {}
    room = most
    for layer in plan.layers:
        rows, start = plan.operator.rows(layer), 0
        while start < rows:
            stop = min(rows, start + room)
            kept[layer.index] = slice(start, stop)
            room -= stop - start
            start = stop
            if room == 0:
                parts.append(_part(plan, kept))
                kept, room = {}, most
    return parts if not kept else [*parts, _part(plan, kept)]


def _part(plan: WalkPlan, kept: Mapping[int, slice]) -> WalkPlan:
    layers = [layer for layer in plan.layers if layer.index in kept]
    return replace(plan, layers=layers, operator=SomeRows(plan.operator, dict(kept)))


def side_by_side(walks: list[Walked]) -> Walked:
    """The rows of several walks over the same positions as one table."""
    if len(walks) == 1:
        return walks[0]
    names = dict.fromkeys(name for walk in walks for name in walk.about)
    return Walked(
        positions=walks[0].positions,
        layer=torch.cat([walk.layer for walk in walks]),
        rank=torch.cat([walk.rank for walk in walks], 1),
        expert=torch.cat([walk.expert for walk in walks], 1),
        weight=torch.cat([walk.weight for walk in walks], 1),
        outcomes=Outcomes.joined([walk.outcomes for walk in walks], 1),
        about={name: torch.cat([_column(walk, name) for walk in walks], 1) for name in names},
        drift=max(walk.drift for walk in walks),
        drifts=_largest([walk.drifts for walk in walks]),
    )


def _largest(drifts: list[torch.Tensor | None]) -> torch.Tensor | None:
    known = [each for each in drifts if each is not None]
    return torch.stack(known).amax(0) if len(known) == len(drifts) else None


def _column(walk: Walked, name: str) -> torch.Tensor:
    """A column of one walk; places after the edit that nobody takes there are expert -1, weight 0."""
    if name in walk.about:
        return walk.about[name]
    expert = name.startswith("after_expert_")
    empty = walk.rank.new_zeros(
        walk.rank.shape[0], 0, dtype=torch.int16 if expert else torch.float32
    )
    return pad(empty, (0, walk.rank.shape[1]), value=-1 if expert else 0)
