"""Which experts go, given scores: lowest first, within each layer or over all of them.

A router that first chooses among groups of experts (DeepSeek-V2 and V3) takes groups of one size, so there the
same number goes from each group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.models import Model, MoELayer
from moeaudit.seeds import generator

from .asked import DEPTHS

Scope = Literal["layer", "global"]
# layer -> the experts that are gone; layers that lose none are absent.
Banned = dict[int, tuple[int, ...]]
Scores = Mapping[tuple[int, int], float]


def depth_layers(model: Model, depth: str) -> list[MoELayer]:
    """The MoE layers of a third of the model's depth; thirds of the MoE layers in order."""
    layers = list(model.anatomy.layers)
    if one_of(depth, DEPTHS, "layers=") == "all":
        return layers
    if len(layers) < 3:
        raise InputError(
            f"{model.name} has {len(layers)} MoE layer(s), which make no early, middle and late "
            "third. Use layers='all'."
        )
    third = np.array_split(np.arange(len(layers)), 3)[DEPTHS.index(depth) - 1]
    return [layers[i] for i in third]


def number_kept(count: int, keep: float) -> int:
    """Experts left of `count`: keep x count, halves up."""
    return math.floor(keep * count + 0.5)


@dataclass(frozen=True)
class Groups:
    """How a router cuts the experts of a layer: `count` groups of neighbours, at least `least` left in each."""

    count: int
    least: int

    def of(self, layer: MoELayer) -> list[range]:
        """The groups of a layer, in the router's order."""
        size = layer.num_experts // self.count
        return [range(a, a + size) for a in range(0, layer.num_experts, size)]

    def kept(self, layer: MoELayer, keep: float) -> int:
        """Experts left in a layer: the share of each group, so the same number in all."""
        return self.count * number_kept(layer.num_experts // self.count, keep)


def check_keep(model: Model, shares: Sequence[float], groups: Groups | None = None) -> None:
    """Raises InputError for a share that leaves fewer experts than a token needs."""
    for share in shares:
        for layer in model.anatomy.layers:
            cut = groups or Groups(1, layer.top_k)
            size, left = layer.num_experts // cut.count, cut.kept(layer, share)
            if left >= cut.least * cut.count:
                continue
            least = math.ceil(cut.least / size * 1000) / 1000
            inside = (
                f" ({left // cut.count} in each of its {cut.count} groups, where its router needs {cut.least})"
                if groups
                else ""
            )
            raise InputError(
                f"Keeping {share:g} leaves {left} of {layer.num_experts} experts{inside} in layer "
                f"{layer.index} of {model.name}, whose tokens need {layer.top_k} each. Keep at "
                f"least {least:g}."
            )


def tie_breaks(model: Model, seed: int) -> dict[tuple[int, int], float]:
    """A random number for each expert, the same for all criteria, that decides between equals."""
    rng = generator(seed, "pruning ties")
    return {
        (layer.index, e): float(x)
        for layer in model.anatomy.layers
        for e, x in enumerate(rng.random(layer.num_experts))
    }


def random_scores(model: Model, seed: int, draw: int) -> dict[tuple[int, int], float]:
    """Scores of one random draw; its shares are nested, as those of a criterion are."""
    rng = generator(seed, "pruning draw", draw)
    return {
        (layer.index, e): float(x)
        for layer in model.anatomy.layers
        for e, x in enumerate(rng.random(layer.num_experts))
    }


def choose(
    layers: Sequence[MoELayer],
    scores: Scores,
    keep: float,
    scope: Scope,
    ties: Scores,
    groups: Groups | None = None,
) -> Banned:
    """The experts of `layers` that go when the share `keep` stays.

    `scope="layer"`: in each layer, those with the lowest scores; of each group where the router has `groups`.
    `scope="global"`: over all `layers` together by raw score, passing over experts of a layer that is down to
    its top-k, or of a group that is down to its least. Nulls go first; equal scores are decided by `ties`,
    never by an expert's number.
    """

    def order(each: tuple[int, int]) -> tuple[float, float]:
        score = scores[each]
        return (-math.inf if math.isnan(score) else score, ties[each])

    gone: dict[int, list[int]] = {layer.index: [] for layer in layers}
    cuts = {layer.index: groups or Groups(1, layer.top_k) for layer in layers}
    if scope == "layer":
        for layer in layers:
            for group in cuts[layer.index].of(layer):
                experts = sorted(((layer.index, e) for e in group), key=order)
                number = len(group) - number_kept(len(group), keep)
                gone[layer.index] += [e for _, e in experts[:number]]
    else:
        room = {
            (layer.index, e): (layer.index, number)
            for layer in layers
            for number, group in enumerate(cuts[layer.index].of(layer))
            for e in group
        }
        left = {
            (layer.index, number): len(group) - cuts[layer.index].least
            for layer in layers
            for number, group in enumerate(cuts[layer.index].of(layer))
        }
        total = sum(layer.num_experts for layer in layers)
        wanted = total - number_kept(total, keep)
        for layer, expert in sorted(room, key=order):
            if wanted == 0:
                break
            if left[room[layer, expert]]:
                gone[layer].append(expert)
                left[room[layer, expert]] -= 1
                wanted -= 1
    return {layer: tuple(sorted(experts)) for layer, experts in gone.items() if experts}
