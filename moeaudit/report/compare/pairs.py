"""Two runs as a pair: what differs between them, which of their places are the same, and why others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.stats.difference.correspondence import Correspondence, correspondence
from moeaudit.store.shards import Shards

from .asked import Asked, asked
from .sides import Side

LEAST_P = (
    0.01  # experts with the same number must agree more than this part of all numberings would
)
CELLS = ("check", "index", "none")


@dataclass
class Pair:
    """The first run and another. `layers`: those that are compared one by one, `cells`: (layer, expert) likewise; empty
    where they are not the same places, and `not_compared` says why."""

    a: Side
    b: Side
    asked: Asked
    layers: list[int] = field(default_factory=list)
    cells: list[tuple[int, int]] = field(default_factory=list)
    correspondence: Correspondence | None = None
    not_compared: list[str] = field(default_factory=list)

    @property
    def documents(self) -> tuple[int, int, int]:
        """How many only the first read, both, and only the other."""
        one, two = set(self.a.documents.values()), set(self.b.documents.values())
        return len(one - two), len(one & two), len(two - one)

    @property
    def same_tokens(self) -> bool:
        return self.a.run.spec.effect_text == self.b.run.spec.effect_text


def pair_of(
    a: Side,
    b: Side,
    tables: tuple[Frame, Frame],
    across: Sequence[str] | None,
    cells: str,
    seed: int,
) -> Pair:
    """Settle what of two runs can be compared. `tables` are their `summed` effects, `cells` one of `CELLS`.

    Raises RunError where their questions cannot be compared (`asked`).
    """
    same = set(a.documents.values()) == set(b.documents.values())
    names = str(a.run.folder), str(b.run.folder)
    pair = Pair(a, b, asked(a.run.spec, b.run.spec, same, across, names))
    found = [sorted({int(layer) for layer in table["layer"]}) for table in tables]
    if min(found[0][0], found[1][0]) < 0:
        pair.not_compared.append(
            "Layers and experts: an edit of the whole model has no place in it, so means over all rows are compared."
        )
        return pair
    if a.depth != b.depth:
        pair.not_compared.append(
            f"Layers and experts: {a.letter} has {a.depth} decoder layers and {b.letter} has {b.depth}, so layers of "
            "one number are no counterparts. Thirds of the depth are compared."
        )
        return pair
    pair.layers = sorted(set(found[0]) & set(found[1]))
    alone = [
        (side.letter, sorted(set(mine) - set(pair.layers))) for side, mine in zip((a, b), found)
    ]
    for letter, layers in alone:
        if layers:
            pair.not_compared.append(f"Layers {_listed(layers)}, which only {letter} has.")
    if not pair.layers:
        return pair
    if why := _no_cells(pair, cells, seed):
        pair.not_compared.append(f"Experts: {why}")
        return pair
    places = [set(zip(t["layer"].astype(int), t["expert"].astype(int))) for t in tables]
    pair.cells = sorted(c for c in places[0] | places[1] if c[0] in set(pair.layers))
    return pair


def _no_cells(pair: Pair, cells: str, seed: int) -> str | None:
    """Why experts cannot be held against each other by their numbers; None if they can."""
    a, b = pair.a, pair.b
    if cells == "none":
        return "left out, as asked."
    for side in (a, b):
        if not side.per_expert:
            return f"the rows of {side.letter} ({side.run.question}) are not about one active expert each."
    other = [layer for layer in pair.layers if a.experts[layer] != b.experts[layer]]
    if other:
        return (
            f"layer {other[0]} has {a.experts[other[0]]} experts in {a.letter} and {b.experts[other[0]]} in "
            f"{b.letter}, so experts of one number are no counterparts."
        )
    if a.run.spec.weights == b.run.spec.weights or cells == "index":
        return None
    if not pair.same_tokens:
        return (
            "the weights differ, and whether an expert's number means the same in both cannot be checked, since "
            "their tokens differ. If you know that it does (two checkpoints of one training), say so: cells='index'."
        )
    pair.correspondence = found = routed_alike(pair, seed)
    if found.p > LEAST_P:
        return (
            f"numbers mean nothing across these weights: {found.shared:.0%} of the active experts of {a.letter} are "
            f"active in {b.letter} for the same token, and {found.shuffled:.0%} if its experts are numbered anew (p = "
            f"{found.p:.3f}). Two trainings from different seeds are like this; checkpoints of one are not."
        )
    return None


def routed_alike(pair: Pair, seed: int) -> Correspondence:
    """Whether experts of one number are chosen for the same tokens, from the clean routing of both runs."""
    columns = ["document", "position", "layer", "expert"]
    tables = []
    for side in (pair.a, pair.b):
        table: Frame = Shards(side.run.folder / "routing").read(columns)
        tables.append(table.assign(document=table["document"].map(side.documents)))
    together, active = {}, {}
    for layer in pair.layers:
        parts = [table[table["layer"] == layer] for table in tables]
        keys = [pd.MultiIndex.from_frame(part[["document", "position"]]) for part in parts]
        tokens = keys[0].unique()
        n, experts = len(tokens), pair.a.experts[layer]
        chosen = []
        for key, part in zip(keys, parts):
            at = tokens.get_indexer(key)
            there = np.zeros((n, experts), dtype=np.float32)
            there[at[at >= 0], part["expert"].to_numpy(int)[at >= 0]] = 1
            chosen.append(there)
        together[layer] = (chosen[0].T @ chosen[1]).astype(float)
        active[layer] = float(chosen[0].sum())
    return correspondence(together, active, seed=seed)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
