"""Several active experts removed together: pairs, whole layers, all sets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from moeaudit.causal.handover import Handover
from moeaudit.causal.interventions import Edits, Routing
from moeaudit.errors import InputError
from moeaudit.models import MoELayer


@dataclass(frozen=True)
class Coalitions(Handover):
    r"""Remove every set of active experts of the given sizes together.

    $y' = y - \sum_{s \in S} w_s E_s(x)$ for each set S. The column `members` is the set as a bit
    mask of ranks, `rank` its smallest member. Pairs (`sizes=(1, 2)`), whole-layer removal
    (`sizes=(k,)`), and all sets (`sizes=None`).
    """

    sizes: tuple[int, ...] | None = None

    of_one_expert = False  # a row is about a set of ranks

    @property
    def name(self) -> str:
        return "coalitions"

    def _sets(self, layer: MoELayer) -> list[tuple[int, ...]]:
        k = layer.top_k
        sizes = range(1, k + 1) if self.sizes is None else self.sizes
        if self.sizes is None and k > 6:
            raise InputError(
                f"Layer {layer.index} is top-{k}: all {2**k - 1} coalitions of a token were asked for, and 6 "
                "active experts are the most that is done in full. Name sizes, such as Coalitions((1, 2))."
            )
        wrong = [size for size in sizes if not 1 <= size <= k]
        if wrong:
            raise InputError(
                f"A coalition of {wrong[0]} does not exist in layer {layer.index}, where {k} experts are active."
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
