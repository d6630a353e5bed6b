"""A head that is one matrix, measured: outcomes in blocks of the vocabulary, whatever the rows and the horizon."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.models.precision import full, not_memory, rounding

from ...outcomes.compare import Outcomes, Spill, drift
from ...outcomes.linear import Clean, LinearHead
from ...outcomes.sums import effects
from .tail import another_forward, before_head, tail_logits

if TYPE_CHECKING:
    from ..plan import WalkPlan

_LOG = logging.getLogger("moeaudit.checking")  # shown on the command line
_SOME = 8  # rows on which a head is looked at
_KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@torch.no_grad()
def linear_head(
    plan: WalkPlan,
    rows: torch.Tensor,  # (positions, all, steps, ...)
    ids: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
) -> LinearHead | None:
    """The model's head where its logits are `W h + b` of the last hidden state and nothing besides; found once a plan.

    What the module of the output embeddings gives must be the logits, bit for bit, and what its weights say.
    None for heads that are capped, scaled, several, quantised or elsewhere.
    """
    if not plan.head:
        plan.head.append(_found(plan, rows[:_SOME, 0, 0], ids[0, 0], tuple_tail))
    return plan.head[0]


def _found(
    plan: WalkPlan, rows: torch.Tensor, filler_id: torch.Tensor, tuple_tail: tuple[Any, ...] | None
) -> LinearHead | None:
    module = _output_embeddings(plan.model.hf)
    if module is None:
        return None
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    run = module.forward

    def note(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append((x, run(x, *args, **kwargs)))
        return seen[-1][1]

    with another_forward(module, note):
        logits = tail_logits(plan.model, rows, filler_id, tuple_tail)
    if len(seen) != 1 or seen[0][1].shape[-1:] != logits.shape[-1:]:
        return None
    hidden, given = (x.flatten(0, -2)[: len(rows)] for x in seen[0])
    if len(given) != len(logits) or hidden.device != rows.device:
        return None
    head = LinearHead(module)
    try:
        mine = head.logits(hidden, plan.budget.logits)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        not_memory(error, f"looking at the head of {plan.model.name}")
        # Weights that cannot be cut. Blocks of rows give the same outcomes; said, since they are slower.
        _LOG.info(
            "%s: its head is not taken in blocks of the vocabulary: %s", plan.model.name, error
        )
        return None
    off = (mine - full(given)).abs().max()
    explained = rounding(given).logit * full(given).abs().max().clamp_min(1.0)
    return head if bool((given == logits).all() & (off <= explained)) else None


def _output_embeddings(hf: nn.Module) -> nn.Linear | None:
    """The module that makes logits, if it is a plain matrix that is here."""
    try:
        module = hf.get_output_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError) as error:
        # transformers raises these for a class that names no head. Blocks of rows ask the model itself.
        _LOG.info("%s names no head of its own: %s", type(hf).__name__, error)
        return None
    if not isinstance(module, nn.Linear) or module.weight.is_meta:
        return None
    return module if module.weight.dtype in _KINDS else None


def by_words(
    head: LinearHead,
    plan: WalkPlan,
    clean: torch.Tensor,  # (tokens, vocab)
    rows: torch.Tensor,  # (positions, all, steps, ...)
    empty: torch.Tensor | None,  # (positions, rows); None where no row is
    ids: torch.Tensor,
    positions: torch.Tensor,
    tuple_tail: tuple[Any, ...] | None,
) -> tuple[Outcomes, torch.Tensor]:
    """As `row_outcomes`. A place is a position and a step: some positions go together, or some steps of one."""
    work = _Work(head, plan, clean, ids, tuple_tail)
    steps = rows.shape[2]
    # Two tables of the clean predictions stand at once, and as many numbers of rows before the head.
    fit = min(_fit(plan, head) // rows.shape[1], plan.budget.logits // (2 * head.vocab))
    most = max(1, fit)
    step, stretch = max(1, most // steps), min(most, steps)
    parts = []
    for a in range(0, len(positions), step):
        part = slice(a, a + step)
        nothing = None if empty is None else empty[part]
        parts.append(work.outcomes(rows[part], nothing, positions[part], stretch))
    return Outcomes.joined(parts, 0), torch.cat(work.moved)


def _fit(plan: WalkPlan, head: LinearHead) -> int:
    """Rows that stand before the head at once: no more numbers than there may be logits."""
    return plan.budget.logits // head.weight.shape[1]


class _Work:
    """What does not change between blocks of rows, and the drift found so far."""

    def __init__(
        self,
        head: LinearHead,
        plan: WalkPlan,
        clean: torch.Tensor,
        ids: torch.Tensor,
        tuple_tail: tuple[Any, ...] | None,
    ) -> None:
        self.head, self.plan, self.clean, self.ids = head, plan, clean, ids[0]
        self.tuple_tail = tuple_tail
        self.moved: list[torch.Tensor] = []

    def outcomes(
        self, rows: torch.Tensor, empty: torch.Tensor | None, at: torch.Tensor, stretch: int
    ) -> Outcomes:
        """Outcomes of some positions, `stretch` steps at a time."""
        (count, _, steps), horizon = rows.shape[:3], self.plan.horizon != 0
        spill, own = Spill(self.ids, at), None
        for s in range(0, steps, stretch):
            some = rows[:, :, s : s + stretch].transpose(1, 2)  # (positions, steps, all, ...)
            found = self._places(some, empty, spill, s)
            for k in range(some.shape[1]):
                here = torch.arange(k, count * some.shape[1], some.shape[1], device=at.device)
                if s + k == 0:
                    own = found.taken(here)
                else:
                    spill.count_in(s + k, found.taken(here))
        assert own is not None
        return spill.onto(own) if horizon else own

    def _places(
        self, some: torch.Tensor, empty: torch.Tensor | None, spill: Spill, first: int
    ) -> Outcomes:
        """Outcomes at each of `positions * steps` places, of rows `"positions steps all ..."` from step `first` on."""
        (count, steps, each), budget = some.shape[:3], self.plan.budget
        target = torch.stack([spill.target(first + k) for k in range(steps)], 1).flatten()
        width = max(1, _fit(self.plan, self.head) // (count * steps))  # rows of a place at once
        together = self._before_head(some[:, :, : 1 + width])
        alone = full(together[:, 0])  # (places, d_model)
        logits = self.head.logits(alone, budget.logits)
        if first == 0:
            self._drift(logits.view(count, steps, -1)[:, 0], spill)
        before = Clean.of(self.head, alone, logits, target)
        parts = []
        for a in range(1, each, width):
            edited = together[:, 1:]
            if a > 1:
                edited = self._before_head(some[:, :, a : a + width])
            change = full(edited) - alone[:, None]
            if empty is not None:  # an edit of nothing is the pass-through row itself
                none = empty[:, None, a - 1 : a - 1 + width].expand(-1, steps, -1).flatten(0, 1)
                change.masked_fill_(none[..., None], 0.0)
            given = (
                before,
                change,
                self.plan.extra,
                budget.compared,
                budget.logits,
                self.plan.tops,
            )
            parts.append(effects(*given))
        return Outcomes.joined(parts, 1)

    def _before_head(self, rows: torch.Tensor) -> torch.Tensor:
        """Of `"positions steps rows ..."`, by place: `"places rows d_model"`."""
        count, steps, each = rows.shape[:3]
        given = (self.head.module, rows.flatten(0, 2), self.ids[0], self.tuple_tail)
        return before_head(self.plan.model, *given).view(count * steps, each, -1)

    def _drift(self, logits: torch.Tensor, spill: Spill) -> None:
        """How far rows without an edit end from the clean forward, with logits rounded as the model gives them."""
        clean = self.clean[spill.positions]
        moved = drift(clean, logits.to(clean.dtype), spill.target(0), careful=False)
        self.moved.append(moved)
