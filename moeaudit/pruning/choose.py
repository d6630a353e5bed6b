"""Which experts go, given scores: lowest first, within each layer or over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.models import Model, MoELayer
from moeaudit.seeds import generator

Scope = Literal["layer", "global"]
DEPTHS = ("all", "early", "middle", "late")
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


def check_keep(model: Model, keep: Sequence[float] | float) -> list[float]:
    """The shares asked for, largest first. Raises InputError below the experts a token needs."""
    shares = [keep] if isinstance(keep, int | float) else list(keep)
    if not shares or not all(isinstance(s, int | float) and 0 < s <= 1 for s in shares):
        raise InputError(
            f"keep = {keep!r}: shares of the experts that stay were expected, each above 0 and at "
            "most 1, such as (0.875, 0.75, 0.5)."
        )
    for share in shares:
        for layer in model.anatomy.layers:
            left = number_kept(layer.num_experts, share)
            if left < layer.top_k:
                least = math.ceil(layer.top_k / layer.num_experts * 1000) / 1000
                raise InputError(
                    f"keep = {share} leaves {left} of {layer.num_experts} experts in layer "
                    f"{layer.index} of {model.name}, whose tokens need {layer.top_k} each. Keep at "
                    f"least {least}."
                )
    return sorted({float(s) for s in shares}, reverse=True)


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
) -> Banned:
    """The experts of `layers` that go when the share `keep` stays.

    `scope="layer"`: in each layer, those with the lowest scores. `scope="global"`: over all `layers`
    together by raw score, passing over experts of a layer that is down to its top-k. Nulls go first;
    equal scores are decided by `ties`, never by an expert's number.
    """

    def order(each: tuple[int, int]) -> tuple[float, float]:
        score = scores[each]
        return (-math.inf if math.isnan(score) else score, ties[each])

    gone: dict[int, list[int]] = {layer.index: [] for layer in layers}
    if scope == "layer":
        for layer in layers:
            experts = sorted(((layer.index, e) for e in range(layer.num_experts)), key=order)
            number = layer.num_experts - number_kept(layer.num_experts, keep)
            gone[layer.index] = [e for _, e in experts[:number]]
    else:
        room = {layer.index: layer.num_experts - layer.top_k for layer in layers}
        total = sum(layer.num_experts for layer in layers)
        wanted = total - number_kept(total, keep)
        every = [(layer.index, e) for layer in layers for e in range(layer.num_experts)]
        for layer, expert in sorted(every, key=order):
            if wanted == 0:
                break
            if room[layer]:
                gone[layer].append(expert)
                room[layer] -= 1
                wanted -= 1
    return {layer: tuple(sorted(experts)) for layer, experts in gone.items() if experts}
