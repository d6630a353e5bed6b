"""A table in which every row stands for itself: what a sample of removals gives."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from moeaudit.models.forward import ExpertsSeen

from ...operators.routing import Edits, Routing
from ...outcomes.compare import Outcomes
from ..plan import Walked, WalkPlan, routing_after
from .sample import Sample

PI = "pi"  # the column of inclusion probabilities


def drawn(
    sample: Sample,
    seen: ExpertsSeen,
    layer: int,
    document: int,
    positions: Int[torch.Tensor, " positions"],
) -> Int[torch.Tensor, " drawn"]:
    """Which of `positions` a sample draws in a layer, as places among them.

    All tokens of the text that have a target are drawn from, so that it does not matter how a walk is cut.
    """
    experts = seen.index[: len(seen.index) - 1].cpu().numpy().astype(np.int64)
    taken = torch.from_numpy(sample.drawn(experts, layer, document))
    return taken.to(positions.device)[positions].nonzero()[:, 0]


def flat_walked(
    plan: WalkPlan,
    answers: list[tuple[Routing, Edits]],
    outcomes: Outcomes | None,
    drift: float = 0.0,
    drifts: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Walked:
    """The rows of all layers below each other, sorted by position; `outcomes` is `"rows 1"` in the order of
    `answers`, None where there is no row. `drifts`: walked positions, ascending, and the drift at each."""
    answers = [(routing, edits) for routing, edits in answers if len(routing.positions)]
    if outcomes is None or not answers:
        none = torch.zeros(0, 1)
        whole = none.long()
        return Walked(whole[:, 0], whole, whole, whole, none, Outcomes(none, none, none.bool()))
    counts = [edits.rank.shape[1] for _, edits in answers]
    at = torch.cat([r.positions.repeat_interleave(n) for (r, _), n in zip(answers, counts)])
    order = at.argsort(stable=True)

    def column(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([part.reshape(-1, 1) for part in parts])[order]

    named = [edits.named(routing) for routing, edits in answers]
    names = answers[0][1].about
    about = {name: column([edits.about[name] for _, edits in answers]) for name in names}
    if plan.keep_routing:
        about |= {k: v[order] for k, v in routing_after(answers, flat=True).items()}
    assert plan.sample is not None
    about[PI] = torch.full((len(at), 1), plan.sample.share, dtype=torch.float64)
    return Walked(
        positions=at[order],
        layer=column([torch.full_like(edits.rank, r.layer.index) for r, edits in answers]),
        rank=column([edits.rank for _, edits in answers]),
        expert=column([expert for expert, _ in named]),
        weight=column([weight for _, weight in named]),
        outcomes=outcomes.taken(order),
        about=about,
        drift=drift if drifts is None else float(drifts[1].max()),
        drifts=None
        if drifts is None
        else drifts[1][torch.searchsorted(drifts[0], at[order]).to(drifts[1].device)],
    )


def stacked(walks: list[Walked]) -> Walked:
    """The rows of several walks at one position, one after the other."""
    walks = [walk for walk in walks if len(walk.positions)] or walks[:1]
    if len(walks) == 1:
        return walks[0]
    names = walks[0].about

    def column(name: str) -> torch.Tensor:
        return torch.cat([getattr(walk, name) for walk in walks])

    return Walked(
        *(column(name) for name in ("positions", "layer", "rank", "expert", "weight")),
        outcomes=Outcomes.joined([walk.outcomes for walk in walks], 0),
        about={name: torch.cat([walk.about[name] for walk in walks]) for name in names},
        drift=max(walk.drift for walk in walks),
        drifts=None if any(x.drifts is None for x in walks) else column("drifts"),
    )
