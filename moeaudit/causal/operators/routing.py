"""What is done to the router's answer. An operator is data about weights, nothing else.

The routed output is linear in the gate weights, `y = sum_s w_s E_s(x)` (verified when a model is
loaded), so every counterfactual is a sparse change of weights: `y' = y + sum_c dw_c E_c(x)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer
from moeaudit.models.anatomy import Anatomy


@dataclass(frozen=True)
class Routing:
    """The router's answer at one layer for some positions of a document, slots in rank order."""

    layer: MoELayer
    index: Int[torch.Tensor, "positions top_k"]
    weight: Float[torch.Tensor, "positions top_k"]
    # What the experts were given; operators that put another output in an expert's place need it.
    hidden: Float[torch.Tensor, "positions d_model"]
    # Places in the document, for operators that draw at random and must not depend on batching.
    positions: Int[torch.Tensor, " positions"]
    # Which document it is (`draws.document_key`), so that documents do not share their draws.
    document: int = 0


@dataclass(frozen=True)
class Edits:
    """Counterfactual answers: `rows` of them at each position, each a change of some weights.

    `rank` says which active expert a row is about. `expert` and `change` give, for each row, the
    experts whose weight changes and by how much; an expert that was not active enters with it.
    `vector` is added to the routed output besides. `about` holds further columns of the table,
    such as the expert that entered. `subject` gives the columns `expert` and `weight` of rows that
    are not about an active expert (a shared expert, say); such rows carry the rank -1.
    """

    rank: Int[torch.Tensor, "positions rows"]
    expert: Int[torch.Tensor, "positions rows changes"]
    change: Float[torch.Tensor, "positions rows changes"]
    vector: Float[torch.Tensor, "positions rows d_model"] | None = None
    about: dict[str, torch.Tensor] = field(default_factory=dict)
    subject: (
        tuple[Int[torch.Tensor, "positions rows"], Float[torch.Tensor, "positions rows"]] | None
    ) = None

    @property
    def empty(self) -> Bool[torch.Tensor, "positions rows"]:
        """Which rows change nothing at all."""
        nothing = (self.change == 0).all(-1)
        return nothing if self.vector is None else nothing & (self.vector == 0).all(-1)

    def named(
        self, routing: Routing
    ) -> tuple[Int[torch.Tensor, "positions rows"], Float[torch.Tensor, "positions rows"]]:
        """The columns `expert` and `weight`: which expert each row is about, and its weight."""
        if self.subject is not None:
            return self.subject
        return routing.index.gather(-1, self.rank), routing.weight.gather(-1, self.rank)


@runtime_checkable
class Operator(Protocol):
    """Anything with a name and a scope that can say how the router's answer changes.

    `scope` is "position" where a row is an edit of one token; "document" where the same edit is made
    at every token of a document, and "model" where it is made in several layers at once. `to_dict`
    writes the operator down, so that a table knows its question.
    """

    @property
    def name(self) -> str: ...

    @property
    def scope(self) -> Literal["position", "document", "model"]: ...

    def rows(self, layer: MoELayer) -> int:
        """Counterfactuals at each position of this layer."""
        ...

    def edits(self, routing: Routing) -> Edits: ...

    def to_dict(self) -> dict[str, Any]: ...


def later_layers(operator: Operator, layer: int) -> tuple[int, ...]:
    """Decoder layers above `layer` in which a row born there goes on losing its expert (`Bank`); () for none."""
    later = getattr(operator, "later", None)
    return () if later is None else tuple(later(layer))


def shared_later(operator: Operator, anatomy: Anatomy, layer: MoELayer) -> list[MoELayer]:
    """The layers of `later_layers`. Raises InputError for one that does not exist or has other numbers of experts."""
    found = [anatomy[i] for i in later_layers(operator, layer.index)]
    for later in found:
        if later.num_experts != layer.num_experts:
            raise InputError(
                f"{operator.name!r}: layer {layer.index} has {layer.num_experts} experts and layer {later.index} has "
                f"{later.num_experts}, so they share no bank. Name layers that do (model.anatomy.tied)."
            )
    return found


def require_fits(operator: Operator, anatomy: Anatomy, layers: Sequence[MoELayer]) -> None:
    """Raise InputError for what the operator names and these layers do not have, before anything is run."""
    if operator.scope == "model":
        operator.layers(anatomy, [layer.index for layer in layers])  # type: ignore[attr-defined]
        return
    for layer in layers:
        operator.rows(layer)
        shared_later(operator, anatomy, layer)


def require_operator(given: object) -> None:
    """Raise InputError for what is no operator; a class instead of an instance is the usual slip."""
    if isinstance(given, type) or not isinstance(given, Operator):
        written = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise InputError(
            f"{written} is no operator. Give one such as Zero(), Swap(3) or Reroute(), with its brackets."
        )


def rows_by_layer(operator: Operator, layers: Sequence[MoELayer]) -> dict[int, int]:
    """Rows of one token by the layer they are born in. One of a whole model stands at the first of the layers."""
    if operator.scope == "model":
        first = min((layer.index for layer in layers), default=None)
        return {layer.index: int(layer.index == first) for layer in layers}
    return {layer.index: operator.rows(layer) for layer in layers}


def why_not_per_expert(operator: Operator, layers: Sequence[MoELayer]) -> str | None:
    """Why routing metrics cannot be held against the effects of `operator`; None if they can.

    The statistics compare the active experts of a token, so there must be one row for each of them.
    """
    if operator.scope == "model":
        return (
            f"the rows of {operator.name!r} are about the whole model, not about one active expert"
        )
    by = getattr(operator, "by", "expert")
    inside = getattr(operator, "operator", operator)
    if by != "expert" or not getattr(inside, "of_one_expert", True):
        return f"the rows of {operator.name!r} are not about one active expert each"
    for layer in layers:
        if (rows := operator.rows(layer)) != layer.top_k:
            return (
                f"{operator.name!r} makes {rows} rows at each token of layer {layer.index}, where "
                f"{layer.top_k} experts are active: not one row for each of them"
            )
    return None


def rank_order(
    index: Int[torch.Tensor, "positions top_k"], weight: Float[torch.Tensor, "positions top_k"]
) -> tuple[Int[torch.Tensor, "positions top_k"], Float[torch.Tensor, "positions top_k"]]:
    """Slots sorted by weight, largest first; equal weights keep their slot order.

    Slot order is not rank order everywhere: DeepSeek-V2 selects with `topk(sorted=False)`.
    """
    order = weight.argsort(dim=-1, descending=True, stable=True)
    return index.gather(-1, order), weight.gather(-1, order)


def edited_answer(
    index: Int[torch.Tensor, "rows top_k"],
    weight: Float[torch.Tensor, "rows top_k"],
    expert: Int[torch.Tensor, "rows changes"],
    change: Float[torch.Tensor, "rows changes"],
) -> tuple[Int[torch.Tensor, "rows slots"], Float[torch.Tensor, "rows slots"]]:
    """The router's answer after the change, as the experts module can be called with it.

    A change of an active expert is made in its slot (so a removal leaves exactly 0.0 there, never
    a rounding error); an expert that was not active gets a slot of its own.
    """
    same = index[:, None, :] == expert[:, :, None]  # (rows, changes, top_k)
    within = torch.einsum("rck,rc->rk", same.to(change.dtype), change)
    weight = torch.where(same.any(1), weight + within, weight)
    fresh = ~same.any(-1)  # (rows, changes)
    if bool(fresh.any()):
        # Index 0 with weight 0 fills the slots that need nothing; never a sentinel index, which
        # grouped_mm would silently misread.
        index = torch.cat([index, torch.where(fresh, expert, 0)], -1)
        weight = torch.cat([weight, torch.where(fresh, change, 0.0)], -1)
    return index, weight
