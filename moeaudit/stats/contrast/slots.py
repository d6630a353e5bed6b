"""The effects table, one layer at a time, as rectangular arrays: tokens by active experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .frames import EffectsReader, Rows


@dataclass(frozen=True)
class Slots:
    """One layer's census. A token with fewer active experts has expert -1 and value NaN in the rest.

    `document` holds codes 0..n_documents-1 that are the same in every layer of one table.
    """

    layer: int
    n_documents: int
    document: Int[np.ndarray, " tokens"]
    position: Int[np.ndarray, " tokens"]
    expert: Int[np.ndarray, "tokens top_k"]
    value: Float[np.ndarray, "tokens top_k"]

    @property
    def present(self) -> np.ndarray:
        return self.expert >= 0


class Census:
    """What a within-token contrast holds of an effects table, whatever the table's size.

    Which two experts of a token are compared depends on the metric, and ranks and dominance are
    over all tokens of a layer, so sums by document do not do. Held are, for every row, the outcome and
    small whole numbers (expert, and document and position once a token): 6 to 10 bytes a row where
    the table has 60. `slots` unpacks one layer; only one is unpacked at a time.
    """

    def __init__(self, effects: Any, outcome: str, layers: Sequence[int] | None = None) -> None:
        reader = EffectsReader(effects, outcome, layers)
        self._parts: dict[int, list[_Packed]] = {}
        for rows in reader:
            self._parts.setdefault(rows.layer, []).append(_Packed.of(rows))
        self.layers, self.documents, self._codes = reader.chosen(), reader.documents, reader.codes

    def slots(self, layer: int) -> Slots:
        """One layer as arrays, tokens sorted by document and position."""
        parts = self._parts[layer]
        shape = (sum(len(p.position) for p in parts), max(int(p.k.max()) for p in parts))
        document = self._codes[np.concatenate([p.document for p in parts])]
        position = np.concatenate([p.position for p in parts]).astype(np.int64)
        k = np.concatenate([p.k for p in parts])
        expert, value = np.full(shape, -1, dtype=np.int64), np.full(shape, np.nan)
        filled = np.arange(shape[1]) < k[:, None]
        expert[filled] = np.concatenate([p.expert for p in parts])
        value[filled] = np.concatenate([p.value for p in parts])
        order = np.lexsort((position, document))
        return Slots(
            layer,
            len(self.documents),
            document[order],
            position[order],
            expert[order],
            value[order],
        )


@dataclass(frozen=True)
class _Packed:
    """`Rows` in few bytes: `document`, `position` and number of experts `k` by token, rest by row."""

    document: np.ndarray
    position: np.ndarray
    k: np.ndarray
    expert: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> _Packed:
        start = np.flatnonzero(rows.first)
        k = np.diff(np.append(start, len(rows.document)))
        with np.errstate(over="ignore"):
            value = rows.value.astype(np.float32)
        value = value if np.array_equal(value, rows.value) else rows.value  # nothing is rounded
        document, position = rows.document[start], rows.position[start]
        return cls(_small(document), _small(position), _small(k), _small(rows.expert), value)


def _small(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 on in the smallest type that holds them."""
    return numbers.astype(np.min_scalar_type(int(numbers.max())))
