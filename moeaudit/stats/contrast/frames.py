"""An effects table as it comes: one frame at a time, one layer's rows at a time.

A table too large for memory lies in shards, each with whole documents. What is computed from it by
document can be added up shard by shard, and equals what the whole table gives bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from .checks import as_frame, finite, outcome_column, outcome_values, whole

KEYS = ["document", "position", "layer", "rank", "expert"]


def frames_of(table: Any, columns: list[str], name: str) -> Iterator[pd.DataFrame]:
    """The frames of a table with exactly `columns`: those of its `frames(columns)`, or itself.

    A `moeaudit.store` table of shards has `frames`; a DataFrame and everything that `as_frame`
    takes is one frame.
    """
    if isinstance(table, pd.DataFrame) or not hasattr(table, "frames"):
        yield as_frame(table, columns, name)
        return
    for frame in table.frames(columns):
        yield as_frame(frame, columns, name)


@dataclass(frozen=True)
class Rows:
    """The rows of one layer in one frame, sorted by document, position and rank.

    `document` holds numbers in the order in which the documents came (`EffectsReader.codes` gives
    their sorted order); `first` marks the first row of each token.
    """

    layer: int
    document: Int[np.ndarray, " rows"]
    position: Int[np.ndarray, " rows"]
    rank: Int[np.ndarray, " rows"]
    expert: Int[np.ndarray, " rows"]
    value: Float[np.ndarray, " rows"]
    weight: Float[np.ndarray, " rows"] | None

    @property
    def first(self) -> np.ndarray:
        new = np.ones(len(self.document), dtype=bool)
        new[1:] = self.document[1:] != self.document[:-1]
        new[1:] |= self.position[1:] != self.position[:-1]
        return new


class EffectsReader:
    """Iterates over `Rows`, and knows the documents and layers that it has met.

    Parameters
    ----------
    effects
        Columns document, position, layer, rank, expert and the outcome's own, one row per active
        expert: a DataFrame, or anything with `frames(columns)`, each document whole in one frame.
    outcome
        A name of `checks.OUTCOMES`.
    layers
        Which layers, by the decoder layer's own index; all of them if None.
    weight
        Whether the gate weight is needed as well.

    Raises InputError, while iterating, for missing columns, no rows, layers that are not there, values
    that are not finite, and a token's rank or a document given twice.
    """

    def __init__(
        self,
        effects: Any,
        outcome: str,
        layers: Sequence[int] | None = None,
        *,
        weight: bool = False,
    ) -> None:
        self.effects, self.outcome, self.weight = effects, outcome, weight
        self.layers = None if layers is None else list(layers)
        self.names: list[Any] = []
        self.found: set[int] = set()

    def __iter__(self) -> Iterator[Rows]:
        columns = [*KEYS, outcome_column(self.outcome), *(["weight"] if self.weight else [])]
        for frame in frames_of(self.effects, columns, "The effects table"):
            if not frame.empty:
                yield from self._rows(frame)
        if not self.names:
            raise InputError("The effects table has no rows, so there is nothing to test.")
        self.chosen()

    def chosen(self) -> list[int]:
        """The layers asked for, rising; all that were met if none were. Once all rows are read."""
        found = sorted(self.found)
        if self.layers is None:
            return found
        if not self.layers:
            raise InputError(f"An empty list of layers was asked for; the effects hold {found}.")
        absent = sorted(set(self.layers) - self.found)
        if absent:
            raise InputError(f"The effects hold no layer {absent}; they hold the layers {found}.")
        return sorted(self.layers)

    @property
    def codes(self) -> Int[np.ndarray, " documents"]:
        """Place of each document, numbered as they came, in the sorted order of all of them."""
        names = pd.Series(self.names, dtype=object)
        return pd.factorize(names, sort=True)[0].astype(np.int64)

    @property
    def documents(self) -> list[Any]:
        """The documents in sorted order."""
        return [self.names[i] for i in np.argsort(self.codes)]

    def _rows(self, frame: pd.DataFrame) -> Iterator[Rows]:
        value = outcome_values(frame, self.outcome)
        weight = None
        if self.weight:
            weight = frame["weight"].to_numpy(np.float64, na_value=np.nan)
            finite(weight, "The column weight of the effects")
        document = self._numbers(frame)
        keys = {name: _whole(frame, name, 0) for name in ("position", "rank", "expert")}
        layer = _whole(frame, "layer")
        for index in (int(x) for x in np.unique(layer)):
            self.found.add(index)
            if self.layers is None or index in self.layers:
                rows = np.flatnonzero(layer == index)
                yield _sorted(index, document, keys, value, weight, rows)

    def _numbers(self, frame: pd.DataFrame) -> np.ndarray:
        codes, names = pd.factorize(frame["document"], sort=True)
        if (codes < 0).any():
            raise InputError(
                f"{int((codes < 0).sum())} rows of the effects table name no document. Every effect "
                "belongs to a document, since documents are the sampling unit."
            )
        again = set(names.tolist()) & set(self.names)
        if again:
            raise InputError(
                f"Document {min(again, key=str)!r} stands in more than one shard of the effects; each "
                "document must lie whole in one. Were two runs put into one folder?"
            )
        before = len(self.names)
        self.names += names.tolist()
        return codes.astype(np.int64) + before


def _whole(frame: pd.DataFrame, name: str, least: int | None = None) -> np.ndarray:
    numbers = frame[name].to_numpy(float, na_value=np.nan)
    return whole(numbers, f"The column {name} of the effects", least)


def _sorted(
    layer: int,
    document: np.ndarray,
    keys: dict[str, np.ndarray],
    value: np.ndarray,
    weight: np.ndarray | None,
    rows: np.ndarray,
) -> Rows:
    rows = rows[np.lexsort((keys["rank"][rows], keys["position"][rows], document[rows]))]
    position, rank, expert = (keys[name][rows] for name in ("position", "rank", "expert"))
    weights = None if weight is None else weight[rows]
    out = Rows(layer, document[rows], position, rank, expert, value[rows], weights)
    twice = ~out.first[1:] & (rank[1:] == rank[:-1])
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise InputError(
            f"The effects give layer {layer}, position {position[at]}, rank {rank[at]} of one "
            f"document more than once ({int(twice.sum())} such rows). Were two runs concatenated?"
        )
    return out
