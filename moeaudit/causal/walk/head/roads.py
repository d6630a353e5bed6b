"""Outcomes of rows that have passed the last decoder layer, by whichever road the model's head allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int

from ...outcomes.compare import Outcomes
from ...outcomes.sums import fusable
from .by_rows import by_rows
from .by_words import by_words, linear_head

if TYPE_CHECKING:
    from ..plan import WalkPlan


_SPILL = ("spill_nll", "spill_kl")


@torch.no_grad()
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

    A linear head is taken in blocks of the vocabulary (`by_words.py`); any other, a function of the user's own, a
    -inf among the clean logits and an effect too large for the fast formula, in blocks of rows (`by_rows.py`).
    What of this there is, is asked of the device once.
    """
    # A sum is finite only where all of it is; one that overflows sends rows the careful way, which is exact too.
    added = clean.sum(-1, dtype=torch.promote_types(clean.dtype, torch.float32))
    asked = torch.stack([~torch.isfinite(added).all(), empty.any()]).tolist()
    given = (plan, clean, rows, empty if asked[1] else None, ids, positions, tuple_tail)
    if asked[0]:
        return by_rows(*given, careful=True)
    head = linear_head(plan, rows, ids, tuple_tail) if fusable(plan.extra) else None
    if head is None or head.weight.device != clean.device:
        found, moved = by_rows(*given, careful=False)
        # A function of the user's own may say infinity.
        checked = [name for name in _SPILL if name in found.extra]
    else:
        found, moved = by_words(head, *given)
        checked = list(found.extra)
    columns = [found.delta_nll, found.kl, moved, *(found.extra[name] for name in checked)]
    if bool(torch.isfinite(torch.stack([column.sum() for column in columns])).all()):
        return found, moved
    return by_rows(*given, careful=True)
