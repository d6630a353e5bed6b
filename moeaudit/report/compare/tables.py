"""The tables of a comparison: differences of the whole, of thirds of the depth, of layers and of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.stats.difference.agreement import agreement
from moeaudit.stats.difference.columns import Difference, Sums, difference_of_columns, pooled
from moeaudit.stats.difference.verdicts import judged
from moeaudit.stats.nullable import nullable
from moeaudit.stats.sizes.limits import means_of_columns

from .pairs import Pair
from .sides import Side, sums_of

THIRDS = ("early", "middle", "late")
Place = dict[str, Any]
TEXT = ["outcome", "a", "b", "third", "verdict", "too_few", "run", "reason"]


@dataclass(frozen=True)
class Settings:
    """How differences are judged: the smallest one of interest, error rate, level of limits, seed."""

    sesoi: float | None
    alpha: float
    level: float
    seed: int


@dataclass(frozen=True)
class Level:
    """One kind of place: its columns, and which cells of a side fall into which of them."""

    places: list[Place]
    cells: tuple[list[tuple[int, int]], list[tuple[int, int]]]
    group: tuple[np.ndarray, np.ndarray]


def differences(
    pairs: Sequence[Pair],
    tables: dict[str, Frame],
    outcomes: Sequence[str],
    level_of: Callable[[Pair, tuple[Frame, Frame]], Level | None],
    how: Settings,
) -> Frame:
    """One row per outcome, pair and place; each outcome's rows are one family of tests. Empty if there is no place."""
    out = []
    for outcome in outcomes:
        made: list[tuple[Pair, Level, Difference]] = []
        for pair in pairs:
            both = tables[pair.a.letter], tables[pair.b.letter]
            level = level_of(pair, both)
            if level is not None:
                made.append((pair, level, _difference(pair, level, both, outcome, how.level)))
        if not made:
            continue
        family = [each for _, _, each in made]
        found = judged(family, bound=how.sesoi, alpha=how.alpha, seed=how.seed)
        for (pair, level, each), said in zip(made, found):
            part = pd.DataFrame(level.places)
            part.insert(0, "outcome", outcome)
            part.insert(1, "a", pair.a.letter)
            part.insert(2, "b", pair.b.letter)
            part["mean_a"], part["mean_b"] = each.a.mean, each.b.mean
            part["difference"], part["low"], part["high"] = each.value, each.low, each.high
            part["p"], part["p_corrected"] = said.p, said.p_corrected
            part["verdict"], part["too_few"] = said.verdict, said.too_few
            part["documents"] = each.there.sum(axis=0)
            part["rows_a"], part["rows_b"] = (s.count.sum(axis=0) for s in (each.a, each.b))
            part["family_size"] = sum(len(d.value) for d in family)
            out.append(part)
    if not out:
        return pd.DataFrame()
    whole = {"layer", "expert", "documents", "rows_a", "rows_b", "family_size"}
    return nullable(pd.concat(out, ignore_index=True), whole=whole, text=TEXT)


def _difference(
    pair: Pair, level: Level, both: tuple[Frame, Frame], outcome: str, limits: float
) -> Difference:
    ids = sorted(set(pair.a.documents.values()) | set(pair.b.documents.values()))
    sides = [
        pooled(sums_of(table, ids, cells, outcome), group, len(level.places))
        for table, cells, group in zip(both, level.cells, level.group)
    ]
    return difference_of_columns(sides[0], sides[1], limits)


def _cells(table: Frame, layers: Sequence[int] | None = None) -> list[tuple[int, int]]:
    found = set(zip(table["layer"].astype(int), table["expert"].astype(int)))
    return sorted(c for c in found if layers is None or c[0] in set(layers))


def whole(pair: Pair, both: tuple[Frame, Frame]) -> Level:
    """All rows; of the layers that both have, where layers are the same places."""
    cells = tuple(_cells(table, pair.layers or None) for table in both)
    return Level([{}], cells, tuple(np.zeros(len(c), dtype=int) for c in cells))  # pyright: ignore


def thirds(pair: Pair, both: tuple[Frame, Frame]) -> Level | None:
    """Early, middle and late layers, by (layer + 1/2) / decoder layers."""
    cells = tuple(_cells(table, pair.layers or None) for table in both)
    if any(layer < 0 for each in cells for layer, _ in each):
        return None
    group = tuple(
        np.array([third(layer, side.depth) for layer, _ in each], dtype=int)
        for each, side in zip(cells, (pair.a, pair.b))
    )
    return Level([{"third": name} for name in THIRDS], cells, group)  # pyright: ignore


def third(layer: int, depth: int) -> int:
    """0, 1 or 2: which third of the depth a layer's middle lies in."""
    return min(2, int(3 * (layer + 0.5) / depth))


def layers(pair: Pair, both: tuple[Frame, Frame]) -> Level | None:
    """The layers that both have."""
    if not pair.layers:
        return None
    cells = tuple(_cells(table, pair.layers) for table in both)
    place = {layer: i for i, layer in enumerate(pair.layers)}
    group = tuple(np.array([place[layer] for layer, _ in each], dtype=int) for each in cells)
    return Level([{"layer": layer} for layer in pair.layers], cells, group)  # pyright: ignore


def experts(pair: Pair, _: tuple[Frame, Frame]) -> Level | None:
    """The (layer, expert) cells that are the same places in both."""
    if not pair.cells:
        return None
    group = np.arange(len(pair.cells))
    places = [{"layer": layer, "expert": expert} for layer, expert in pair.cells]
    return Level(places, (pair.cells, pair.cells), (group, group))


def ranks(
    pairs: Sequence[Pair], tables: dict[str, Frame], outcomes: Sequence[str], how: Settings
) -> Frame:
    """Rank agreement of experts, layer by layer, of the pairs whose cells are compared; flips are left out."""
    out = []
    for pair in pairs:
        ids = sorted(set(pair.a.documents.values()) | set(pair.b.documents.values()))
        for outcome in outcomes if pair.cells else ():
            if outcome == "flip":
                continue
            for layer in pair.layers:
                cells = [c for c in pair.cells if c[0] == layer]
                one, two = (
                    sums_of(tables[s.letter], ids, cells, outcome) for s in (pair.a, pair.b)
                )
                found = agreement(one, two, level=how.level, seed=how.seed)
                out.append(
                    {
                        "outcome": outcome, "a": pair.a.letter, "b": pair.b.letter, "layer": layer,
                        "rho": found.rho, "low": found.low, "high": found.high, "apart": found.apart,
                        "halves": found.halves, "experts": found.experts, "reason": found.reason,
                    }
                )  # fmt: skip
    return (
        nullable(pd.DataFrame(out), whole={"layer", "experts"}, text=TEXT)
        if out
        else pd.DataFrame()
    )


def profile(
    sides: Sequence[Side], tables: dict[str, Frame], outcomes: Sequence[str], level: float
) -> Frame:
    """Mean of each run's layers with limits, and how deep they lie (0 to 1)."""
    out = []
    for side in sides:
        ids, cells = sorted(set(side.documents.values())), _cells(tables[side.letter])
        found = sorted({layer for layer, _ in cells})
        group = np.array([found.index(layer) for layer, _ in cells])
        for outcome in outcomes:
            sums: Sums = pooled(
                sums_of(tables[side.letter], ids, cells, outcome), group, len(found)
            )
            mean, low, high = means_of_columns(sums.total, sums.count, level)
            out.append(
                pd.DataFrame(
                    {
                        "outcome": outcome, "run": side.letter, "layer": found,
                        "depth": [(layer + 0.5) / side.depth for layer in found],
                        "mean": mean, "low": low, "high": high, "rows": sums.count.sum(axis=0),
                    }
                )
            )  # fmt: skip
    return nullable(pd.concat(out, ignore_index=True), whole={"layer", "rows"}, text=TEXT)
