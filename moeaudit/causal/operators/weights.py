"""Operators that change the router's answer: each another meaning of "take this expert away".

Notation: a token's active experts carry weights $w_1 \\ge \\dots \\ge w_k$ (by rank), the routed output
is $y = \\sum_s w_s E_s(x)$, and $y'$ is what stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer

from .base import BaseOperator, is_whole, require_whole_numbers
from .routing import Edits, Routing


def each_rank(
    routing: Routing,
) -> tuple[
    Int[torch.Tensor, "positions top_k"],
    Int[torch.Tensor, "positions top_k top_k"],
    Float[torch.Tensor, "positions top_k top_k"],
]:
    """One row for each rank, and in each row all active experts and their weights."""
    p, k = routing.index.shape
    rank = torch.arange(k, device=routing.index.device).expand(p, k)
    every = (p, k, k)
    return rank, routing.index[:, None].expand(every), routing.weight[:, None].expand(every)


@dataclass(frozen=True)
class Zero(BaseOperator):
    r"""Remove one active expert at one position: its weight becomes 0, the others stay as they are.

    $y' = y - w_s E_s(x)$. No renormalisation and no rerouting, whatever the model's own rule is:
    the common denominator of models whose weights sum to one and of those whose do not. One row
    for each active expert.
    """

    tells_routing = False

    @property
    def name(self) -> str:
        return "zero"

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        positions, top_k = routing.index.shape
        rank = torch.arange(top_k, device=routing.index.device).expand(positions, top_k)
        return Edits(rank, routing.index[..., None], -routing.weight[..., None])


@dataclass(frozen=True)
class Renormalize(BaseOperator):
    r"""Remove one active expert and scale the others up.

    $y' = c \sum_{s \ne r} w_s E_s(x)$ with $c = W / \sum_{s \ne r} w_s$, where $W$ is 1 for
    `to="one"` and the old sum $\sum_s w_s$ for `to="sum"`. For a model whose weights sum to one the
    two are the same. Raises InputError for a top-1 layer, where nothing is left to scale.
    """

    to: Literal["one", "sum"] = "sum"

    def __post_init__(self) -> None:
        if self.to not in ("one", "sum"):
            raise InputError(f"Renormalize({self.to!r}): 'one' or 'sum' was expected.")

    @property
    def name(self) -> str:
        return f"renormalize to {self.to}"

    def rows(self, layer: MoELayer) -> int:
        if layer.top_k < 2:
            raise InputError(
                f"{layer.name} activates one expert a token, so after a removal no weight is left to "
                "renormalise. Use Zero() for this model."
            )
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        rank, expert, weight = each_rank(routing)
        gone = torch.eye(weight.shape[-1], dtype=torch.bool, device=weight.device)
        left = weight.masked_fill(gone, 0.0).sum(-1, keepdim=True)
        goal = weight.sum(-1, keepdim=True) if self.to == "sum" else torch.ones_like(left)
        scaled = weight * (goal / left)
        return Edits(rank, expert, torch.where(gone, -weight, scaled - weight))


@dataclass(frozen=True)
class Swap(BaseOperator):
    r"""Put another expert in an active one's place, at the same weight.

    $y' = y - w_r E_r(x) + w_r E_e(x)$. `Swap(e)` puts expert e in the place of each active expert in
    turn; `Swap("all")` tries every expert of the layer in every place (k x E rows a token), the full
    counterfactual routing of a token. The column `entered` names e; an expert swapped for itself
    changes nothing. Raises InputError for an expert that the layer does not have.
    """

    expert: int | Literal["all"]

    def __post_init__(self) -> None:
        if self.expert != "all" and not (is_whole(self.expert) and self.expert >= 0):
            raise InputError(
                f"Swap({self.expert!r}): an expert's number or 'all' was expected, numbers from 0."
            )

    @property
    def name(self) -> str:
        return f"swap in {'every expert' if self.expert == 'all' else f'expert {self.expert}'}"

    def _entering(self, layer: MoELayer) -> list[int]:
        if self.expert == "all":
            return list(range(layer.num_experts))
        if not 0 <= self.expert < layer.num_experts:
            raise InputError(
                f"{layer.name}: expert {self.expert} does not exist; the layer has experts 0 to "
                f"{layer.num_experts - 1}. Name one of those, or use Swap('all')."
            )
        return [self.expert]

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k * len(self._entering(layer))

    def edits(self, routing: Routing) -> Edits:
        entering = torch.tensor(self._entering(routing.layer), device=routing.index.device)
        p, k = routing.index.shape
        shape = (p, k, len(entering))
        leaves = routing.index[:, :, None].expand(shape)
        enters = entering.expand(shape)
        weight = routing.weight[:, :, None].expand(shape)
        # Swapped for itself: no change at all, rather than a change and its opposite.
        weight = torch.where(leaves == enters, 0.0, weight)
        rank = torch.arange(k, device=entering.device)[:, None].expand(shape)
        return Edits(
            rank.flatten(1),
            torch.stack([leaves, enters], -1).flatten(1, 2),
            torch.stack([-weight, weight], -1).flatten(1, 2),
            about={"entered": enters.flatten(1).to(torch.int16)},
        )


@dataclass(frozen=True)
class Skip(BaseOperator):
    r"""Remove the tail: all active experts of rank j and beyond, for each j in `ranks`.

    $y' = \sum_{s < j} w_s E_s(x)$, what a token would get from zero experts in the tail's place
    (ZEDA, arXiv 2605.18643), weights untouched. `rank` in the table is j; `ranks=None` takes every
    j from 0 (all removed) to k - 1. Raises InputError for a rank that does not exist.
    """

    ranks: tuple[int, ...] | None = None

    of_one_expert = False  # a row is about a tail of ranks

    def __post_init__(self) -> None:
        require_whole_numbers("Skip", self.ranks)

    @property
    def name(self) -> str:
        return "skip the tail"

    def _from(self, layer: MoELayer) -> list[int]:
        ranks = list(range(layer.top_k)) if self.ranks is None else list(self.ranks)
        wrong = [j for j in ranks if not 0 <= j < layer.top_k]
        if wrong:
            raise InputError(
                f"{layer.name} is top-{layer.top_k}, and Skip({self.ranks}) names rank {wrong[0]}: ranks from 0 "
                f"to {layer.top_k - 1} were expected."
            )
        return ranks

    def rows(self, layer: MoELayer) -> int:
        return len(self._from(layer))

    def edits(self, routing: Routing) -> Edits:
        p, k = routing.index.shape
        start = torch.tensor(self._from(routing.layer), device=routing.index.device)
        tail = torch.arange(k, device=start.device) >= start[:, None]  # (rows, k)
        shape = (p, len(start), k)
        weight = routing.weight[:, None].expand(shape)
        return Edits(
            start.expand(p, -1),
            routing.index[:, None].expand(shape),
            torch.where(tail, -weight, 0.0),
        )
