"""The same edit at every position of a document, instead of at one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from moeaudit.errors import InputError
from moeaudit.models import MoELayer
from moeaudit.models.forward import ExpertsSeen, clean_pass

from ..check.handover import Handover
from ..outcomes.compare import Outcomes, compare, measure
from .routing import Edits, Intervention, Routing, edited_answer, rank_order, require_operator

if TYPE_CHECKING:
    from ..walk.plan import Walked, WalkPlan

_TOKENS = 1 << 12  # tokens in one batch of copies
_LOGITS = 1 << 25  # logits of one batch of copies


@dataclass(frozen=True)
class Sequence(Handover):
    r"""Make the edit of `operator` at every position of the document at once.

    With `by="expert"` a row about expert e in layer l gets, at every position where e is active
    there, the edit that `operator` makes about e: $y'_t = \mathrm{op}(y_t, e)$ for all t with e among the active
    experts of t, $y'_t = y_t$ for the others. With `by="rank"` row r of every position is
    edited, whichever expert it is about there. The table has the rows of `operator`; a row's outcome is
    still that of the prediction after position t, now with the same edit made at all
    earlier positions too, so what reaches t through attention is in it.

    Copies of the document run in full forwards, one for each layer and distinct edit: T times
    fewer than one for each token, but no longer part of the one walk. Do not compare the numbers
    with single-position effects as if they were the same quantity.

    Raises InputError for an operator whose rows are about several experts (`Skip`, `Coalitions`)
    unless `by="rank"`, and for operators that edit a whole document already.
    """

    operator: Intervention
    by: Literal["expert", "rank"] = "expert"

    def __post_init__(self) -> None:
        name = getattr(self.operator, "name", type(self.operator).__name__)
        if self.by not in ("expert", "rank"):
            raise InputError(f"Sequence(by={self.by!r}): 'expert' or 'rank' was expected.")
        require_operator(self.operator)
        if hasattr(self.operator, "walk"):
            raise InputError(
                f"Sequence() was given {name!r}, which is no edit of a single position. Give it an operator such "
                "as Zero(), Renormalize() or Reroute()."
            )
        if self.by == "expert" and not getattr(self.operator, "of_one_expert", True):
            raise InputError(
                f"The rows of {name!r} are not about one active expert, so there is no expert to follow through "
                "the document. Write Sequence(..., by='rank'): row r of every position is edited."
            )

    @property
    def name(self) -> str:
        return f"sequence of {self.operator.name} by {self.by}"

    def rows(self, layer: MoELayer) -> int:
        return self.operator.rows(layer)

    def edits(self, routing: Routing) -> Edits:
        """Not to be had: the edit is of a whole document. Raises InputError."""
        raise InputError(
            f"{self.name!r} edits every position of a document, so it is no edit of single positions in layer "
            f"{routing.layer.index}. Give it to ablate(), or use the operator inside: {self.operator.name!r}."
        )

    @torch.no_grad()
    def walk(self, plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
        """Effects at `positions` of the document `ids`, `"1 tokens"`."""
        from ..walk.plan import walked

        require_plain(plan, self.name)
        clean, seen = clean_pass(plan.model, plan.layers, ids)
        everywhere = torch.arange(ids.shape[1], device=ids.device)
        answers, parts, drift = [], [], 0.0
        for layer in plan.layers:
            given = seen[layer.index]
            index, weight = rank_order(given.index, given.weight)
            routing = Routing(layer, index.long(), weight, given.hidden, everywhere)
            edits = self.operator.edits(routing)
            copies = _Copies(plan, clean, given, edits, self._keys(routing, edits))
            parts.append(copies.outcomes(layer, ids, positions))
            drift = max(drift, copies.drift)
            answers.append((_at(routing, positions), _edits_at(edits, positions)))
        return walked(plan, positions, answers, Outcomes.joined(parts, 1), drift)

    def _keys(self, routing: Routing, edits: Edits) -> torch.Tensor:
        """Which copy of the document each row belongs to, `"tokens rows"`, counted from 0."""
        rows = torch.arange(edits.rank.shape[1], device=edits.rank.device).expand_as(edits.rank)
        if self.by == "rank":
            return rows
        expert = edits.named(routing)[0]
        # Rows about the same expert at one position (Swap("all")) are edits of their own, told
        # apart by their place among them.
        same = expert[:, :, None] == expert[:, None, :]  # (tokens, rows, rows)
        place = same.tril(-1).sum(-1)
        both = expert * (int(place.max()) + 1) + place
        return both.unique(return_inverse=True)[1].view_as(expert)


def require_plain(plan: WalkPlan, name: str) -> None:
    """Raise InputError for options of the walk that full forwards of a document do not have."""
    if plan.frozen or plan.horizon != 0:
        raise InputError(
            f"{name!r} runs whole edited documents: later tokens see the edit in any case, and later "
            "layers route by themselves. Leave horizon and frozen routing out."
        )


def _at(routing: Routing, positions: torch.Tensor) -> Routing:
    index, weight, hidden = (x[positions] for x in (routing.index, routing.weight, routing.hidden))
    return Routing(routing.layer, index, weight, hidden, positions)


def _edits_at(edits: Edits, positions: torch.Tensor) -> Edits:
    subject = edits.subject
    return Edits(
        edits.rank[positions],
        edits.expert[positions],
        edits.change[positions],
        about={name: column[positions] for name, column in edits.about.items()},
        subject=None if subject is None else (subject[0][positions], subject[1][positions]),
    )


class _Copies:
    """Copies of a document, each with another edit of one layer, and the first of a batch with none.

    The others are measured against that first one, so that a batch's rounding is no effect.
    """

    def __init__(
        self,
        plan: WalkPlan,
        clean: torch.Tensor,
        given: ExpertsSeen,
        edits: Edits,
        keys: torch.Tensor,
    ) -> None:
        self.plan, self.clean, self.given, self.edits = plan, clean, given, edits
        self.keys = keys  # (tokens, rows), which copy a row belongs to
        self.drift = 0.0

    def outcomes(self, layer: MoELayer, ids: torch.Tensor, positions: torch.Tensor) -> Outcomes:
        """Outcomes of the layer's rows at `positions`, a batch of copies at a time."""
        tokens, vocab = self.clean.shape
        wanted = self.keys[positions]
        step = max(1, min(_TOKENS // tokens, _LOGITS // (tokens * vocab)))
        parts, places = [], []
        for a in range(0, int(self.keys.max()) + 1, step):
            p, row = ((wanted >= a) & (wanted < a + step)).nonzero(as_tuple=True)
            if len(p) == 0:
                continue
            last = min(a + step, int(self.keys.max()) + 1)
            logits = self._run(layer.experts, ids, [None, *range(a, last)])
            alone, at = logits[0], positions[p]
            edited = logits[1 + wanted[p, row] - a, at][:, None]  # (pairs, 1, vocab)
            targets = ids[0, at + 1]
            parts.append(measure(alone[at], edited, targets, self.plan.extra))
            places.append(p * wanted.shape[1] + row)
            moved = compare(self.clean[at], alone[at][:, None].clone(), targets).delta_nll
            self.drift = max(self.drift, float(moved.abs().max()))
        order = torch.cat(places).argsort()
        whole = Outcomes.joined(parts, 0)

        def table(column: torch.Tensor) -> torch.Tensor:
            return column[order].reshape(wanted.shape)

        extra = {name: table(column) for name, column in whole.extra.items()}
        return Outcomes(table(whole.delta_nll), table(whole.kl), table(whole.flip), extra)

    def _answer(self, key: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """One copy's answer at every position: index, weight "tokens slots", and a vector or None."""
        given, edits = self.given, self.edits
        mine = torch.zeros_like(self.keys, dtype=torch.bool) if key is None else self.keys == key
        row, here = mine.to(torch.int8).argmax(1), mine.any(1)[:, None]  # at most one a position
        each = torch.arange(len(row), device=row.device)
        change = torch.where(here, edits.change[each, row], 0.0)
        index, weight = edited_answer(given.index, given.weight, edits.expert[each, row], change)
        vector = None if edits.vector is None else torch.where(here, edits.vector[each, row], 0.0)
        return index, weight, vector

    def _run(
        self, experts: torch.nn.Module, ids: torch.Tensor, keys: list[int | None]
    ) -> torch.Tensor:
        """Logits, `"copies tokens vocab"`."""
        answers = [self._answer(key) for key in keys]
        slots = max(index.shape[1] for index, _, _ in answers)
        pad = torch.nn.functional.pad
        index = torch.cat([pad(i, (0, slots - i.shape[1])) for i, _, _ in answers])
        weight = torch.cat([pad(w, (0, slots - w.shape[1])) for _, w, _ in answers])
        vectors = [vector for _, _, vector in answers if vector is not None]

        def replace(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:  # noqa: ARG001
            hidden, old_index, old_weight = [*args, *kwargs.values()][:3]
            return (hidden, index.to(old_index.dtype), weight.to(old_weight.dtype)), {}

        def add(module: Any, args: tuple, output: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG001
            if not vectors:
                return None
            return output + torch.cat(vectors).reshape(output.shape).to(output.dtype)

        handle = experts.register_forward_pre_hook(replace, with_kwargs=True)
        added = experts.register_forward_hook(add)
        try:
            return self.plan.model.hf(input_ids=ids.expand(len(keys), -1), use_cache=False).logits
        finally:
            handle.remove()
            added.remove()
