"""Several active experts removed together: pairs, whole layers, all sets, random nested sets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Int

from moeaudit.errors import InputError
from moeaudit.models import MoELayer

from ..base import BaseOperator, is_whole, require_whole_numbers
from ..draws import splitmix64, wrapped
from ..routing import Edits, Routing


@dataclass(frozen=True)
class Coalitions(BaseOperator):
    r"""Remove every set of active experts of the given sizes together.

    $y' = y - \sum_{s \in S} w_s E_s(x)$ for each set S. The column `members` is the set as a bit
    mask of ranks, `rank` its smallest member. Pairs (`sizes=(1, 2)`), whole-layer removal
    (`sizes=(k,)`), and all sets (`sizes=None`).
    """

    sizes: tuple[int, ...] | None = None

    of_one_expert = False  # a row is about a set of ranks

    def __post_init__(self) -> None:
        require_whole_numbers("Coalitions", self.sizes)

    @property
    def name(self) -> str:
        return "coalitions"

    def _sets(self, layer: MoELayer) -> list[tuple[int, ...]]:
        k = layer.top_k
        sizes = range(1, k + 1) if self.sizes is None else self.sizes
        if self.sizes is None and k > 6:
            raise InputError(
                f"{layer.name} is top-{k}: all {2**k - 1} coalitions of a token were asked for, and 6 "
                "active experts are the most that is done in full. Name sizes, such as Coalitions((1, 2))."
            )
        wrong = [size for size in sizes if not 1 <= size <= k]
        if wrong:
            raise InputError(
                f"{layer.name}: a coalition of {wrong[0]} does not exist, since {k} experts are active. Name "
                f"sizes from 1 to {k}, or use Coalitions() for all."
            )
        return [each for size in sizes for each in itertools.combinations(range(k), size)]

    def rows(self, layer: MoELayer) -> int:
        return len(self._sets(layer))

    def edits(self, routing: Routing) -> Edits:
        p, k = routing.index.shape
        sets = self._sets(routing.layer)
        member = torch.zeros(len(sets), k, dtype=torch.bool, device=routing.index.device)
        for row, each in enumerate(sets):
            member[row, list(each)] = True
        shape = (p, len(sets), k)
        weight = routing.weight[:, None].expand(shape)
        first = torch.tensor([each[0] for each in sets], device=member.device)
        mask = torch.tensor([sum(1 << r for r in each) for each in sets], device=member.device)
        return Edits(
            first.expand(p, -1),
            routing.index[:, None].expand(shape),
            torch.where(member, -weight, 0.0),
            about={"members": mask.expand(p, -1).to(torch.int32)},
        )


@dataclass(frozen=True)
class Permutations(BaseOperator):
    r"""Remove a token's active experts one after the other, in `n` random orders.

    For each order $\pi$ the nested sets $\{\pi_1\}, \{\pi_1, \pi_2\}, \dots$, whose differences are marginal
    effects: what `shapley` needs where 2^k sets are too many (Castro, Gomez & Tejada 2009). `members`
    is the set as a bit mask of ranks, `rank` the expert removed last, `permutation` counts the orders; the whole
    set, where all orders end, is one row with permutation -1. n (k - 1) + 1 rows a token.

    Orders differ from token to token; they depend on `seed`, document, layer, position and the active
    experts only. Raises InputError for fewer than two orders, from which no error bar follows.
    """

    n: int = 16
    seed: int = 0

    of_one_expert = False  # a row is about a set of ranks
    draws = True

    def __post_init__(self) -> None:
        if not is_whole(self.n) or self.n < 2:
            raise InputError(
                f"Permutations(n={self.n!r}): at least 2 random orders were expected, so that the error of their "
                "mean can be told."
            )

    @property
    def name(self) -> str:
        return f"{self.n} permutations (seed {self.seed})"

    def rows(self, layer: MoELayer) -> int:
        return self.n * (layer.top_k - 1) + 1

    def edits(self, routing: Routing) -> Edits:
        p, k = routing.index.shape
        keys = torch.stack([_keys(self.seed, m, routing) for m in range(self.n)], 1)
        order = keys.argsort(-1)  # (positions, orders, k): ranks as they go
        step = order.argsort(-1)  # at which step each rank goes
        upto = torch.arange(k - 1, device=order.device)
        gone = step[:, :, None, :] <= upto[:, None]  # (positions, orders, k - 1, k)
        every = torch.ones(p, 1, k, dtype=torch.bool, device=order.device)
        member = torch.cat([gone.flatten(1, 2), every], 1)  # (positions, rows, k)
        shape = member.shape
        last = torch.cat([order[..., : k - 1].flatten(1), torch.zeros_like(order[:, 0, :1])], 1)
        number = torch.arange(self.n, device=order.device).repeat_interleave(k - 1)
        number = torch.cat([number, number.new_tensor([-1])]).expand(shape[:2])
        mask = (member.long() << torch.arange(k, device=order.device)).sum(-1)
        return Edits(
            last,
            routing.index[:, None].expand(shape),
            torch.where(member, -routing.weight[:, None].expand(shape), 0.0),
            about={"members": mask.to(torch.int32), "permutation": number.to(torch.int32)},
        )


def _keys(seed: int, order: int, routing: Routing) -> Int[torch.Tensor, "positions top_k"]:
    """A random number for each active expert; sorting by it gives a uniformly random order."""
    start = seed * 0x9E3779B97F4A7C15 + order * 0xBF58476D1CE4E5B9 + routing.document
    place = routing.positions[:, None] * 1_000_003 + routing.layer.index
    return splitmix64(splitmix64(place + wrapped(start)) + routing.index * 0x632BE59BD9B4E019)
