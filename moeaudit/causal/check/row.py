"""One row of an operator, as an edit of a layer's routing that any machinery can make.

This is the side of the independent engines and of operators handed over to other libraries. It
asks the operator for its edits and applies them by itself; it shares nothing with the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer

from ..operators.routing import Edits, Operator, Routing


@dataclass(frozen=True)
class Row:
    """Which counterfactual of an operator: the columns of the effects table that name it.

    `position` counts from the start of the chunk. `rank` or `expert` may be None where the other
    is enough; `about` holds the operator's own columns (`entered`, `members`, ...). `strict`
    refuses columns that the operator does not have; a row taken from a table has others besides.
    """

    layer: int
    position: int
    rank: int | None = None
    expert: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = True
    # Which document it is (`operators.draws.document_key`), for operators that draw at random.
    document: int = 0


class NotActive(InputError):
    """The row is about an expert that is not active there, in the forward that was asked."""


@dataclass(frozen=True)
class Change:
    """What is changed in one layer: weights of some experts at some positions, and a vector added."""

    positions: Int[torch.Tensor, " positions"]
    expert: Int[torch.Tensor, "positions changes"]
    change: Float[torch.Tensor, "positions changes"]
    vector: Float[torch.Tensor, "positions d_model"] | None = None


# From what a layer's experts are given to what is changed: hidden "tokens d_model", index and
# weight "tokens top_k" in the model's own slot order.
Edit = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Change]


def row_edit(operator: Operator, layer: MoELayer, row: Row, about: list[int] | None = None) -> Edit:
    """The edit of one row: computed from the router's answer that the caller itself has captured.

    `about` is told which expert the row is about, once that is known.
    """

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:
        require_position(row, len(index))
        at = torch.tensor([row.position], device=index.device)
        routing = routing_at(layer, at, hidden, index, weight, row.document)
        edits = operator.edits(routing)
        r = place_of(operator, row, routing, edits, 0)
        vector = None if edits.vector is None else edits.vector[:, r]
        if about is not None:
            about[:] = [int(edits.named(routing)[0][0, r])]
        return Change(at, edits.expert[:, r], edits.change[:, r], vector)

    return edit


def require_position(row: Row, tokens: int) -> None:
    """Raise InputError for a row beyond the text."""
    if not 0 <= row.position < tokens:
        raise InputError(
            f"Position {row.position} does not exist in a text of {tokens} tokens. Expected a position "
            f"between 0 and {tokens - 1}."
        )


def routing_at(
    layer: MoELayer,
    positions: Int[torch.Tensor, " positions"],
    hidden: Float[torch.Tensor, "tokens d_model"],
    index: Int[torch.Tensor, "tokens top_k"],
    weight: Float[torch.Tensor, "tokens top_k"],
    document: int,
) -> Routing:
    """The router's answer at `positions`, slots by falling weight (equal ones in slot order)."""
    ranked, order = weight[positions].sort(dim=-1, descending=True, stable=True)
    chosen = index[positions].gather(-1, order).long()
    return Routing(layer, chosen, ranked, hidden[positions], positions, document)


def place_of(operator: Operator, row: Row, routing: Routing, edits: Edits, at: int) -> int:
    """Which of the operator's rows is the one that `row` names; `at` is the position's place in `edits`."""
    expert = edits.named(routing)[0][at]
    fits = torch.ones_like(expert, dtype=torch.bool)
    if row.expert is not None:
        fits &= expert == row.expert
    for name, value in row.about.items():
        if name not in edits.about and not row.strict:
            continue
        if name not in edits.about:
            raise InputError(
                f"{operator.name} has no column {name!r} that tells rows apart; it has "
                f"{sorted(edits.about) or 'none'}."
            )
        column = edits.about[name][at]
        fits &= torch.isclose(column.double(), torch.tensor(float(value)).double(), equal_nan=True)
    ranked = fits if row.rank is None else fits & (edits.rank[at] == row.rank)
    # Experts of equal weight may change ranks between two libraries; the expert's name decides.
    found = (ranked if bool(ranked.any()) or row.expert is None else fits).nonzero().flatten()
    if len(found) == 1 or (len(found) > 1 and _same(edits, found, at)):
        return int(found[0])
    where = f"at position {row.position} of layer {row.layer}"
    asked = {"rank": row.rank, "expert": row.expert} | dict(row.about)
    said = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    if len(found) == 0:
        raise NotActive(
            f"{operator.name} has no row with {said} {where}: there experts "
            f"{routing.index[at].tolist()} are active, by rank. An expert that is not active cannot be removed; "
            "check that model, documents and effects belong together."
        )
    raise InputError(
        f"{operator.name} has {len(found)} rows with {said} {where}. Say which, by a value of "
        f"{', '.join(sorted(edits.about)) or 'expert'}."
    )


def _same(edits: Edits, rows: torch.Tensor, at: int) -> bool:
    """Whether these rows are one and the same edit."""
    parts = [edits.expert[at, rows], edits.change[at, rows]]
    parts += [] if edits.vector is None else [edits.vector[at, rows]]
    return all(bool((part == part[:1]).all()) for part in parts)


def edited_slots(
    index: Int[torch.Tensor, "tokens top_k"],
    weight: Float[torch.Tensor, "tokens top_k"],
    change: Change,
    num_experts: int,
) -> tuple[Int[torch.Tensor, "tokens slots"], Float[torch.Tensor, "tokens slots"]]:
    """The arguments to call the experts with: changed weights in their slots, new experts behind.

    Fillers of new slots are experts that exist, with weight 0.
    """
    before = weight.new_zeros(len(weight), num_experts).scatter_add(1, index.long(), weight)
    after = edited_weights(before, change)
    entering = after.scatter(1, index.long(), 0.0)  # weights of experts that had no slot
    slots = int((entering != 0).sum(1).max())
    kept = after.gather(1, index.long())
    if slots == 0:
        return index, kept
    new = entering.abs().topk(slots, dim=1).indices
    return torch.cat([index, new.to(index.dtype)], 1), torch.cat([kept, entering.gather(1, new)], 1)


def edited_weights(
    weight: Float[torch.Tensor, "tokens experts"], change: Change
) -> Float[torch.Tensor, "tokens experts"]:
    """Weights of all experts after the change, zero for those that are not active."""
    where = change.positions[:, None].expand_as(change.expert)
    added = change.change.to(weight.dtype)
    return weight.clone().index_put((where, change.expert.long()), added, accumulate=True)


def with_vector(output: torch.Tensor, change: Change) -> torch.Tensor:
    """The routed output, one row a token in any shape, with the vector added where it belongs."""
    if change.vector is None:
        return output
    flat = output.reshape(-1, change.vector.shape[-1]).clone()
    flat[change.positions] += change.vector.to(flat.dtype)
    return flat.reshape(output.shape)
