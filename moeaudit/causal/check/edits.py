"""Operators that edit a whole document, as edits of layers that any machinery can make.

A second way to the same counterfactuals, written apart from the walks on copies: it asks nothing of
the operators but what they are about.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int

from moeaudit.errors import ModelError
from moeaudit.models import MoELayer
from moeaudit.models.anatomy import Anatomy
from moeaudit.models.precision import units

from ..operators.everywhere import Everywhere
from ..operators.routing import Operator, later_layers
from ..operators.whole.pool import DocumentPool
from ..operators.whole.without import Without
from .row import Change, Edit, Row, place_of, require_position, routing_at, row_edit


class CannotExpress(ModelError):
    """An edit that there is no means to make; the message says which and why."""


Answers = dict[int, tuple[torch.Tensor, torch.Tensor]]


def recording(anatomy: Anatomy, kept: Answers) -> dict[int, Edit]:
    """Edits that change nothing and write down every router's answer."""

    def at(layer: int) -> Edit:
        def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:  # noqa: ARG001
            kept[layer] = (index.long().clone(), weight.clone())
            return Change(index.new_zeros(0), index[:0].long(), weight[:0])

        return edit

    return {layer.index: at(layer.index) for layer in anatomy.layers}


def frozen_above(
    row: Row, clean: Answers, again: Mapping[int, Edit] | None = None
) -> dict[int, Edit]:
    """Edits that put the clean answers back in every layer above the row's, and make the edit `again` in them."""

    def at(layer: int) -> Edit:
        def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:
            before, was = clean[layer]
            everywhere = torch.arange(len(index), device=index.device)
            if again is not None and layer in again:
                more = again[layer](hidden, before, was)
                was = was.clone()
                was[more.positions] += more.change  # in the order of `before`
            return Change(
                everywhere, torch.cat([index.long(), before], 1), torch.cat([-weight, was], 1)
            )

        return edit

    return {layer: at(layer) for layer in clean if layer > row.layer}


def edits_of(operator: Operator, anatomy: Anatomy, row: Row) -> dict[int, Edit]:
    """What `row` of `operator` edits, by decoder layer index.

    Raises CannotExpress, when the edit is made, for a router whose rule is not written down here.
    """
    if operator.scope == "model":
        if isinstance(operator, DocumentPool):
            return {
                layer.index: _pooled(operator, layer, row) for layer in operator.layers(anatomy)
            }
        assert isinstance(operator, Without)
        return {index: _without(operator, anatomy[index]) for index in operator.experts}
    moe = anatomy[row.layer]
    if operator.scope == "document":
        assert isinstance(operator, Everywhere)
        return {row.layer: _everywhere(operator, moe, row)}
    lost: list[int] = []  # the expert, once the row's own layer has been asked
    again = {i: _lost_again(row, lost) for i in later_layers(operator, row.layer)}
    return {row.layer: row_edit(operator, moe, row, lost), **again}


def _lost_again(row: Row, lost: list[int]) -> Edit:
    """The row's expert at weight 0 once more, if the token goes to it in this layer."""

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:  # noqa: ARG001
        at = torch.tensor([row.position], device=index.device)
        here, was = index[at].long(), weight[at]
        return Change(at, here, torch.where(here == lost[0], -was, 0.0))

    return edit


def _everywhere(operator: Everywhere, layer: MoELayer, row: Row) -> Edit:
    """The inner operator's row at every position: the same row number, or the same expert's."""

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:
        require_position(row, len(index))
        everywhere = torch.arange(len(index), device=index.device)
        routing = routing_at(layer, everywhere, hidden, index, weight, row.document)
        edits = operator.operator.edits(routing)
        named, _ = edits.named(routing)  # (tokens, rows)
        mine = place_of(operator.operator, row, routing, edits, row.position)
        positions, rows = [], []
        for t in range(len(named)):
            if operator.by == "rank":
                found = [mine]
            else:  # which of an expert's rows: Swap("all") has several
                expert, nth = (
                    named[row.position, mine],
                    int((named[row.position, :mine] == named[row.position, mine]).sum()),
                )
                found = (named[t] == expert).nonzero().flatten().tolist()[nth : nth + 1]
            positions += [t] * len(found)
            rows += found
        at = torch.tensor(positions, device=index.device)
        vector = None if edits.vector is None else edits.vector[at, rows]
        return Change(at, edits.expert[at, rows], edits.change[at, rows], vector)

    return edit


def _without(operator: Without, layer: MoELayer) -> Edit:
    """The answer without a set of experts: their weights 0, or others in their place."""
    gone = torch.tensor(operator.experts[layer.index])

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:
        everywhere = torch.arange(len(index), device=index.device)
        if operator.rule == "zero":
            among = torch.isin(index.cpu(), gone).to(index.device)
            return Change(everywhere, index.long(), torch.where(among, -weight, 0.0))
        logits = _router_logits(layer, hidden)
        after = _softmax_top_k(layer, logits, index, weight, gone, operator.scores == "remaining")
        before = torch.zeros_like(after).scatter(1, index.long(), weight.to(after.dtype))
        every = torch.arange(layer.num_experts, device=index.device).expand_as(after)
        return Change(everywhere, every, after - before)

    return edit


def _pooled(operator: DocumentPool, layer: MoELayer, row: Row) -> Edit:
    """The answer when only the document's pool may be chosen; the pool is found anew from the router's logits."""

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Change:
        logits = _router_logits(layer, hidden)
        if operator.draw == "random":
            inside = operator.pool(layer, hidden, row.document).nonzero().flatten()
        else:
            inside = torch.softmax(logits.double(), -1).mean(0).topk(operator.size).indices
        every = torch.arange(layer.num_experts, device=index.device)
        gone = every[~torch.isin(every, inside.to(every.device))]
        after = _softmax_top_k(layer, logits, index, weight, gone, remaining=True)
        before = torch.zeros_like(after).scatter(1, index.long(), weight.to(after.dtype))
        everywhere = torch.arange(len(index), device=index.device)
        return Change(everywhere, every.expand_as(after), after - before)

    return edit


def _router_logits(
    layer: MoELayer, hidden: Float[torch.Tensor, "tokens d_model"]
) -> Float[torch.Tensor, "tokens experts"]:
    shape = (len(hidden), layer.num_experts)
    try:
        output = None if layer.router is None else layer.router(hidden[None])
    except TypeError:  # some routers are handed their bias by the block that calls them
        raise CannotExpress(_unknown(layer)) from None
    for part in output if isinstance(output, tuple) else (output,):
        if isinstance(part, torch.Tensor) and part.numel() == shape[0] * shape[1]:
            return part.reshape(shape)
    raise CannotExpress(_unknown(layer))


def _softmax_top_k(
    layer: MoELayer,
    logits: Float[torch.Tensor, "tokens experts"],
    index: Int[torch.Tensor, "tokens top_k"],
    weight: Float[torch.Tensor, "tokens top_k"],
    gone: torch.Tensor,
    remaining: bool,
) -> Float[torch.Tensor, "tokens experts"]:
    """Weights of all experts when `gone` cannot be chosen, by the plain rule, once it has proved right.

    softmax, top-k, perhaps normalised over the chosen, times a constant. The rule must give the
    captured answer before it is asked for another one.
    """
    scores = torch.softmax(logits.double(), -1)
    chosen = scores.topk(layer.top_k).indices
    same = bool((chosen.sort().values == index.long().sort().values).all())
    captured = weight.double()
    for normalised in (False, True):
        plain = scores.gather(1, index.long())
        plain = plain / plain.sum(1, keepdim=True) if normalised else plain
        scale = captured.sum() / plain.sum()
        allowed = units(weight, 16)
        if same and torch.allclose(plain * scale, captured, rtol=allowed, atol=allowed):
            break
    else:
        raise CannotExpress(_unknown(layer))
    gone = gone.to(logits.device)
    if remaining:
        scores = torch.softmax(logits.double().index_fill(1, gone, -torch.inf), -1)
    scores = scores.index_fill(1, gone, 0.0)
    best = scores.topk(layer.top_k)
    kept = best.values / best.values.sum(1, keepdim=True) if normalised else best.values
    return torch.zeros_like(scores).scatter(1, best.indices, kept * scale).to(weight.dtype)


def _unknown(layer: MoELayer) -> str:
    router = type(layer.router).__name__ if layer.router is not None else "the router"
    return (
        f"Who enters in place of absent experts is recomputed only for routers that take the k largest "
        f"of a softmax over all experts, and {router} of {layer.architecture}, layer {layer.index}, answers by another "
        "rule (group limits, a bias for the choice, sigmoid scores). Verify Without(..., rule='zero') "
        "instead, which needs no rule."
    )
