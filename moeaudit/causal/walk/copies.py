"""Walks on copies of a document, by the operator's scope: one position, every position, the whole model."""

from __future__ import annotations

import torch

from moeaudit.errors import InputError
from moeaudit.models.forward import ExpertsSeen, clean_pass

from ..operators.everywhere import Everywhere
from ..operators.routing import Edits, Routing, edited_answer, later_layers
from ..operators.whole.base import WholeModel
from ..outcomes.compare import Outcomes, compare, drift, measure, measure_steps
from .births import routing_at
from .follow import followed, losing
from .forwards import Answer, Edit, at_position, frozen, run
from .plan import Walked, WalkPlan, walked
from .several.flat import drawn, flat_walked


@torch.no_grad()
def walk_position(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """One copy of the document for each counterfactual, edited at its position."""
    everywhere = list(plan.model.anatomy.layers) if plan.frozen else plan.layers
    followed(plan)  # refuses layers that share no bank
    clean, seen = clean_pass(plan.model, everywhere, ids)
    answers: list[tuple[Routing, Edits]] = []
    document = plan.document(ids)
    for moe in plan.layers:
        here = positions
        if plan.sample is not None:
            here = positions[drawn(plan.sample, seen[moe.index], moe.index, document, positions)]
        routing = routing_at(moe, seen[moe.index], here, document)
        answers.append((routing, plan.operator.edits(routing)))
    parts, moved = [], 0.0
    for routing, edits in answers:
        if len(routing.positions) == 0:
            continue
        part, away = _positions(plan, ids, clean, seen, routing, edits)
        parts.append(part)
        moved = max(moved, away)
    if plan.sample is not None:
        found = [part.reshaped(part.kl.numel(), 1) for part in parts]
        return flat_walked(plan, answers, Outcomes.joined(found, 0) if found else None, moved)
    return walked(plan, positions, answers, Outcomes.joined(parts, 1), moved)


def _positions(
    plan: WalkPlan,
    ids: torch.Tensor,
    clean: torch.Tensor,
    seen: dict[int, ExpertsSeen],
    routing: Routing,
    edits: Edits,
) -> tuple[Outcomes, float]:
    """Outcomes of one layer's rows, a batch of copies at a time, and the largest drift."""
    p, rows, changes = edits.expert.shape
    (tokens, vocab), device = clean.shape, ids.device
    targets, empty = ids[0, 1:], edits.empty.flatten()
    which = torch.arange(p, device=device).repeat_interleave(rows)  # (positions * rows,)
    at, steps = routing.positions[which], plan.steps(tokens, int(routing.positions.min()))
    ahead = (routing.positions[:, None] + torch.arange(steps, device=device)).clamp(max=tokens - 1)
    before = seen[routing.layer.index]
    # Slots in the model's own order here: the answer is edited, not replaced.
    index, weight = edited_answer(
        before.index[at],
        before.weight[at],
        edits.expert.reshape(-1, changes),
        edits.change.reshape(-1, changes),
    )
    vector = None if edits.vector is None else edits.vector.flatten(0, 1)
    base = {i: frozen(given) for i, given in seen.items()} if plan.frozen else {}
    again = later_layers(plan.operator, routing.layer.index)
    expert = edits.named(routing)[0].flatten()
    parts, moved = [], 0.0
    batch = plan.budget.copies(tokens, vocab)
    for a in range(0, p * rows, batch):
        part = slice(a, a + batch)
        copies: list[dict[int, Edit]] = [base]
        for row in range(*part.indices(p * rows)):
            mine = at_position(
                before if plan.frozen else None,
                int(at[row]),
                index[row],
                weight[row],
                None if vector is None else vector[row],
            )
            place, lost = int(at[row]), int(expert[row])
            more = {i: losing(base.get(i), place, lost) for i in again}
            copies.append({**base, **more, routing.layer.index: mine})
        logits = run(plan.model, ids, copies)
        places = ahead[which[part]]  # (copies, steps)
        moved = max(moved, float(drift(clean[:-1], logits[0, :-1], targets).max()))
        # An edit of nothing is the copy without an edit itself.
        copy = torch.arange(1, len(logits), device=device).masked_fill(empty[part], 0)
        edited = logits[copy[:, None], places][:, None]
        alone, here = logits[0, places], at[part]
        parts.append(measure_steps(alone, edited, ids[0], here, *plan.measured, tops=plan.tops))
    return Outcomes.joined(parts, 0).reshaped(p, rows), moved


@torch.no_grad()
def walk_document(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """One copy of the document for each layer and distinct edit, made at every position."""
    operator = plan.operator
    assert isinstance(operator, Everywhere)
    _require_plain(plan)
    clean, seen = clean_pass(plan.model, plan.layers, ids)
    everywhere = torch.arange(ids.shape[1], device=ids.device)
    answers, parts, moved = [], [], 0.0
    document = plan.document(ids)
    for layer in plan.layers:
        routing = routing_at(layer, seen[layer.index], everywhere, document)
        edits = operator.operator.edits(routing)
        keys = operator.copies(routing, edits)
        part, away = _everywhere(
            plan, ids, clean, seen[layer.index], routing, edits, keys, positions
        )
        parts.append(part)
        moved = max(moved, away)
        answers.append((_at(routing, positions), _edits_at(edits, positions)))
    return walked(plan, positions, answers, Outcomes.joined(parts, 1), moved)


def _everywhere(
    plan: WalkPlan,
    ids: torch.Tensor,
    clean: torch.Tensor,
    given: ExpertsSeen,
    routing: Routing,
    edits: Edits,
    keys: torch.Tensor,  # (tokens, rows), which copy a row belongs to
    positions: torch.Tensor,
) -> tuple[Outcomes, float]:
    """Outcomes of one layer's rows at `positions`, a batch of copies at a time."""
    tokens, vocab = clean.shape
    wanted, count = keys[positions], int(keys.max()) + 1
    batch = plan.budget.whole_copies(tokens, vocab)
    parts, places, moved = [], [], 0.0
    for a in range(0, count, batch):
        p, row = ((wanted >= a) & (wanted < a + batch)).nonzero(as_tuple=True)
        if len(p) == 0:
            continue
        copies: list[dict[int, Edit]] = [
            {routing.layer.index: _answer(given, edits, keys, key)}
            for key in (None, *range(a, min(a + batch, count)))
        ]
        logits = run(plan.model, ids, copies)
        alone, at = logits[0], positions[p]
        edited = logits[1 + wanted[p, row] - a, at][:, None]  # (pairs, 1, vocab)
        targets = ids[0, at + 1]
        parts.append(
            measure(alone[at], edited, targets, plan.extra, plan.budget.compared, tops=plan.tops)
        )
        places.append(p * wanted.shape[1] + row)
        away = compare(clean[at], alone[at][:, None].clone(), targets).delta_nll
        moved = max(moved, float(away.abs().max()))
    order = torch.cat(places).argsort()
    return Outcomes.joined(parts, 0).taken(order).reshaped(*wanted.shape), moved


def _answer(given: ExpertsSeen, edits: Edits, keys: torch.Tensor, key: int | None) -> Edit:
    """One copy's answer at every position; `key` None for the copy that is not edited."""
    mine = torch.zeros_like(keys, dtype=torch.bool) if key is None else keys == key
    row, here = mine.to(torch.int8).argmax(1), mine.any(1)[:, None]  # at most one a position
    each = torch.arange(len(row), device=row.device)
    change = torch.where(here, edits.change[each, row], 0.0)
    index, weight = edited_answer(given.index, given.weight, edits.expert[each, row], change)
    vector = None if edits.vector is None else torch.where(here, edits.vector[each, row], 0.0)
    return lambda *_: Answer(index, weight, vector)


@torch.no_grad()
def walk_model(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """One forward of the document with the edit in every layer that it names."""
    operator = plan.operator
    assert isinstance(operator, WholeModel)
    _require_plain(plan)
    layers = operator.layers(plan.model.anatomy, [layer.index for layer in plan.layers])
    clean, seen = clean_pass(plan.model, layers, ids)
    document = plan.document(ids)

    inside: dict[int, torch.Tensor] = {}  # what each edited layer was given, edits below included

    def edit(layer):
        def answer(hidden, index, weight):
            inside[layer.index] = hidden
            return Answer(*operator.answer(layer, hidden, index, weight, document))

        return answer

    edited = run(plan.model, ids, [{layer.index: edit(layer) for layer in layers}])[0]
    removed = torch.zeros(ids.shape[1], device=ids.device)
    for layer in layers:
        given = seen[layer.index]
        removed = removed + operator.removed(
            layer, inside[layer.index], given.index, given.weight, document
        )
    none = torch.full((len(positions), 1), -1, device=ids.device)
    return Walked(
        positions=positions,
        layer=torch.tensor([-1]),
        rank=none,
        expert=none,
        weight=removed[positions][:, None],
        outcomes=measure(
            clean[positions],
            edited[positions][:, None],
            ids[0, positions + 1],
            plan.extra,
            plan.budget.compared,
            tops=plan.tops,
        ),
    )


def _require_plain(plan: WalkPlan) -> None:
    """Raise InputError for options of the walk that full forwards of a document do not have."""
    if plan.frozen or plan.horizon != 0:
        raise InputError(
            f"{plan.operator.name!r} runs whole edited documents: later tokens see the edit in any case, and "
            "later layers route by themselves. Leave horizon and frozen routing out."
        )


def _at(routing: Routing, positions: torch.Tensor) -> Routing:
    index, weight, hidden = (x[positions] for x in (routing.index, routing.weight, routing.hidden))
    return Routing(routing.layer, index, weight, hidden, positions, routing.document)


def _edits_at(edits: Edits, positions: torch.Tensor) -> Edits:
    subject = edits.subject
    return Edits(
        edits.rank[positions],
        edits.expert[positions],
        edits.change[positions],
        about={name: column[positions] for name, column in edits.about.items()},
        subject=None if subject is None else (subject[0][positions], subject[1][positions]),
    )
