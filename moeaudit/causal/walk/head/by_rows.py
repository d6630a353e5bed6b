"""Outcomes by the model's own head: whole logits of a block of rows at a time, for whatever head and outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ...outcomes.compare import Outcomes, Spill, drift, measure, measure_steps
from .tail import tail_logits

if TYPE_CHECKING:
    from ..plan import WalkPlan


def by_rows(
    plan: WalkPlan,
    clean: torch.Tensor,
    rows: torch.Tensor,
    empty: torch.Tensor | None,  # None where no row is
    ids: torch.Tensor,
    positions: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
    *,
    careful: bool,
) -> tuple[Outcomes, torch.Tensor]:
    """As `row_outcomes`: some positions at a time, some rows of one position where not even one fits, some
    tokens of one row where not even one does."""
    (n, steps), vocab = rows.shape[1:3], clean.shape[-1]

    def logits(block: torch.Tensor) -> torch.Tensor:
        """Logits of a block of rows, in its own shape."""
        shape, flat = block.shape[:3], block.flatten(0, 2)
        return tail_logits(plan.model, flat, ids[0, 0], tuple_tail).view(*shape, vocab)

    most, parts, moved = plan.budget.logits // vocab, [], []
    if n * steps <= most or n * steps == 1:
        step = max(1, most // (n * steps))
        for a in range(0, len(positions), step):
            part = slice(a, a + step)
            block, at = logits(rows[part]), positions[part]
            alone, edited = block[:, 0], block[:, 1:]
            moved.append(drift(clean[at], alone[:, 0], ids[0, at + 1], careful))
            edited = _emptied(alone, edited, None if empty is None else empty[part])
            given = (alone, edited, ids[0], at, *plan.measured, careful, plan.tops)
            parts.append(measure_steps(*given))
        return Outcomes.joined(parts, 0), torch.cat(moved)
    for p in range(len(positions)):
        here = slice(p, p + 1)
        nothing = None if empty is None else empty[here]
        given = (plan, clean, rows[here], nothing, ids, positions[here], logits)
        found, away = _position(*given, careful=careful)
        parts.append(found)
        moved.append(away)
    return Outcomes.joined(parts, 0), torch.cat(moved)


def _position(
    plan: WalkPlan,
    clean: torch.Tensor,
    rows: torch.Tensor,  # (1, all, steps, ...)
    empty: torch.Tensor | None,  # (1, rows)
    ids: torch.Tensor,
    at: torch.Tensor,  # (1,)
    logits: Callable[[torch.Tensor], torch.Tensor],
    *,
    careful: bool,
) -> tuple[Outcomes, torch.Tensor]:
    """Outcomes at one position whose rows do not fit together, cut by rows, then by steps; its drift, (1,)."""
    extra, horizon, at_once = plan.measured
    most, steps = max(1, plan.budget.logits // clean.shape[-1]), rows.shape[2]
    width = max(1, min(rows.shape[1] - 1, most // min(steps, most)))  # rows at a time
    stretch = max(1, most // width)  # steps at a time
    parts, moved = [], []
    for a in range(1, rows.shape[1], width):
        some = rows[:, a : a + width]
        nothing = None if empty is None else empty[:, a - 1 : a - 1 + width]
        own: Outcomes | None = None
        spill = Spill(ids[0], at, at_once, careful)
        for s in range(0, steps, stretch):
            alone = logits(rows[:, :1, s : s + stretch])[:, 0]  # (1, stretch, vocab)
            edited = _emptied(alone, logits(some[:, :, s : s + stretch]), nothing)
            if s == 0:
                target = ids[0, at + 1]
                moved.append(drift(clean[at], alone[:, 0], target, careful))
                own = measure(
                    alone[:, 0], edited[:, :, 0], target, extra, at_once, careful, plan.tops
                )
            for k in range(int(s == 0), alone.shape[1]):
                spill.add(s + k, alone[:, k], edited[:, :, k])
        assert own is not None
        parts.append(spill.onto(own) if horizon else own)
    return Outcomes.joined(parts, 1), torch.stack(moved).amax(0)


def _emptied(
    alone: torch.Tensor,  # (positions, steps, vocab)
    edited: torch.Tensor,  # (positions, rows, steps, vocab)
    empty: torch.Tensor | None,  # (positions, rows); None where none is
) -> torch.Tensor:
    """An edit of nothing is the pass-through row itself."""
    if empty is None:
        return edited
    return torch.where(empty[..., None, None], alone[:, None], edited)
