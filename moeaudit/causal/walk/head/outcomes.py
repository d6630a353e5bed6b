"""Outcomes of rows that have passed the last decoder layer, by whichever road the model's head allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int

from ...outcomes.compare import Outcomes
from ...outcomes.sums import fusable
from .linear import by_words, linear_head
from .whole import by_rows

if TYPE_CHECKING:
    from ..plan import WalkPlan


def row_outcomes(
    plan: WalkPlan,
    clean: Float[torch.Tensor, "tokens vocab"],
    rows: Float[torch.Tensor, "positions all steps ..."],
    empty: Bool[torch.Tensor, "positions rows"],
    ids: Int[torch.Tensor, "1 tokens"],
    positions: Int[torch.Tensor, " positions"],
    tuple_tail: tuple[Any, ...] | None,
) -> tuple[Outcomes, Float[torch.Tensor, " positions"]]:
    """Effects of each row against row 0 of its position, and the drift of row 0 at each (nats).

    A linear head is taken in blocks of the vocabulary (`linear.py`); any other, a function of the user's own, a
    -inf among the clean logits and an effect too large for the fast formula, in blocks of rows (`whole.py`).
    What of this there is, is asked of the device once.
    """
    asked = torch.stack([~torch.isfinite(clean).all(), empty.any()]).tolist()
    given = (plan, clean, rows, empty if asked[1] else None, ids, positions, tuple_tail)
    if asked[0]:
        return by_rows(*given, careful=True)
    head = linear_head(plan, rows, ids, tuple_tail) if fusable(plan.extra) else None
    whole = head is None or head.weight.device != clean.device
    found, moved = by_rows(*given, careful=False) if whole else by_words(head, *given)
    if _finite(found, moved, extra=not whole):
        return found, moved
    return by_rows(*given, careful=True)


def _finite(found: Outcomes, moved: torch.Tensor, *, extra: bool) -> bool:
    """Whether nothing overflowed; a user's own function may say infinity."""
    names = found.extra if extra else [n for n in ("spill_nll", "spill_kl") if n in found.extra]
    columns = [found.delta_nll, found.kl, moved, *(found.extra[name] for name in names)]
    return bool(torch.isfinite(torch.stack([column.sum() for column in columns])).all())
