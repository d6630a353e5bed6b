"""The effects table, one layer at a time, as rectangular arrays: tokens by active experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from .checks import whole


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


def document_codes(effects: pd.DataFrame) -> tuple[np.ndarray, int]:
    """Codes 0..D-1 for the documents of a table, in sorted order, and D."""
    codes, names = pd.factorize(effects["document"], sort=True)
    if (codes < 0).any():
        raise InputError(
            f"{int((codes < 0).sum())} rows of the effects table name no document. Every effect "
            "belongs to a document, since documents are the sampling unit."
        )
    return codes.astype(np.int64), len(names)


def documents_of(effects: pd.DataFrame) -> list[Any]:
    """The documents of a table in the order of their codes."""
    return pd.factorize(effects["document"], sort=True)[1].tolist()


def layers_of(
    effects: pd.DataFrame, values: np.ndarray, layers: Sequence[int] | None = None
) -> Iterator[Slots]:
    """Walk the layers of an effects table in rising order; memory is one layer's arrays.

    Parameters
    ----------
    effects
        Columns document, position, layer, rank, expert. One row per active expert.
    values
        The outcome, one per row of `effects`.
    layers
        Which layers, by the decoder layer's own index; all of them if None.
    """
    if effects.empty:
        raise InputError("The effects table has no rows, so there is nothing to test.")
    document, n_documents = document_codes(effects)
    layer = whole(
        effects["layer"].to_numpy(float, na_value=np.nan), "The column layer of the effects"
    )
    found = [int(x) for x in np.unique(layer)]
    if layers is not None and len(layers) == 0:
        raise InputError(f"An empty list of layers was asked for; the effects hold {found}.")
    absent = sorted(set(layers or []) - set(found))
    if absent:
        raise InputError(f"The effects hold no layer {absent}; they hold the layers {found}.")
    columns = {
        c: whole(effects[c].to_numpy(float, na_value=np.nan), f"The column {c} of the effects", 0)
        for c in ("position", "rank", "expert")
    }
    for index in found if layers is None else sorted(layers):
        rows = np.flatnonzero(layer == index)
        yield _layer(index, n_documents, document[rows], values[rows], rows, columns)


def _layer(
    layer: int,
    n_documents: int,
    document: np.ndarray,
    value: np.ndarray,
    rows: np.ndarray,
    columns: dict[str, np.ndarray],
) -> Slots:
    position, rank, expert = (columns[c][rows] for c in columns)
    order = np.lexsort((rank, position, document))
    document, position, rank, expert, value = (
        x[order] for x in (document, position, rank, expert, value)
    )
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (document[1:] != document[:-1]) | (position[1:] != position[:-1])
    token = np.cumsum(new) - 1
    twice = ~new[1:] & (rank[1:] == rank[:-1])
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise InputError(
            f"The effects give layer {layer}, position {position[at]}, rank {rank[at]} of one "
            f"document more than once ({int(twice.sum())} such rows). Were two runs concatenated?"
        )
    start = np.flatnonzero(new)
    slot = np.arange(len(rows)) - start[token]
    shape = (len(start), int(slot.max()) + 1)
    experts = np.full(shape, -1, dtype=np.int64)
    values = np.full(shape, np.nan)
    experts[token, slot] = expert
    values[token, slot] = value
    return Slots(layer, n_documents, document[start], position[start], experts, values)
