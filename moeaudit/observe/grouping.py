"""Fast sums over (layer, expert) cells, shared by all metrics of this room.

Routing tables have millions of rows, so everything is a `bincount` over one integer cell number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, Integer

from moeaudit.errors import InputError

from .trace import Trace


@dataclass(frozen=True)
class Cells:
    """Every (layer, expert) cell of a trace, active or not, and the cell of each routing row."""

    layer: Int64[np.ndarray, " cells"]
    expert: Int64[np.ndarray, " cells"]
    of_row: Int64[np.ndarray, " rows"]
    tokens: Int64[np.ndarray, " cells"]  # tokens that passed the cell's layer

    @classmethod
    def of(cls, trace: Trace) -> Cells:
        layers = trace.layers
        sizes = np.array([trace.facts.num_experts[layer] for layer in layers])
        first = np.concatenate([[0], np.cumsum(sizes)])  # cell of expert 0 of each layer
        layer_of_row = np.searchsorted(layers, trace.routing["layer"].to_numpy())
        expert = trace.routing["expert"].to_numpy(np.int64)
        if (expert >= sizes[layer_of_row]).any() or (expert < 0).any():
            raise InputError(
                "The routing table names an expert that its layer does not have. Expected experts "
                f"0 to {int(sizes.max()) - 1}; check that table and facts are of the same model."
            )
        tops = trace.routing["rank"].to_numpy() == 0
        tokens = np.bincount(layer_of_row[tops], minlength=len(layers))
        return cls(
            layer=np.repeat(np.array(layers, dtype=np.int64), sizes),
            expert=np.concatenate([np.arange(size) for size in sizes]),
            of_row=first[layer_of_row] + expert,
            tokens=np.repeat(tokens, sizes),
        )

    def sum(self, values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " cells"]:
        return np.bincount(self.of_row, weights=values, minlength=len(self.layer))

    @property
    def n_active(self) -> Int64[np.ndarray, " cells"]:
        """Tokens that chose the cell's expert."""
        return np.bincount(self.of_row, minlength=len(self.layer))

    def mean(self, values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " cells"]:
        """Mean over the expert's active tokens; NaN for an expert that never is."""
        return divide(self.sum(values), self.n_active)


def divide(
    numerator: Float[np.ndarray, " cells"], denominator: Integer[np.ndarray, " cells"]
) -> Float[np.ndarray, " cells"]:
    """Quotient where the denominator is positive, NaN (not zero) where there is nothing."""
    empty = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)


@dataclass(frozen=True)
class Choices:
    """One layer's answers as matrices, rank 0 first, a row per token."""

    document: Int64[np.ndarray, " tokens"]
    position: Int64[np.ndarray, " tokens"]
    expert: Int64[np.ndarray, "tokens top_k"]
    weight: Float[np.ndarray, "tokens top_k"]

    @classmethod
    def of(cls, trace: Trace, layer: int) -> Choices:
        """Choices of one layer, sorted by document and position.

        Raises:
            InputError: a layer that is not in the trace, or tokens that lack some of their ranks.
        """
        inside = trace.routing["layer"].to_numpy() == layer
        if not inside.any():
            raise InputError(f"The trace has no layer {layer}. Its MoE layers are {trace.layers}.")
        columns = {
            name: trace.routing[name].to_numpy()[inside]
            for name in ("document", "position", "rank", "expert", "weight")
        }
        order = np.lexsort((columns["rank"], columns["position"], columns["document"]))
        columns = {name: values[order] for name, values in columns.items()}
        top_k = int(columns["rank"].max()) + 1
        tokens = len(order) // top_k
        if len(order) % top_k or (columns["rank"] != np.tile(np.arange(top_k), tokens)).any():
            raise InputError(
                f"Some tokens of layer {layer} lack some of their {top_k} chosen experts. Expected "
                "the whole routing table that capture wrote, not a part of it."
            )
        return cls(
            document=columns["document"][::top_k].astype(np.int64),
            position=columns["position"][::top_k].astype(np.int64),
            expert=columns["expert"].astype(np.int64).reshape(tokens, top_k),
            weight=columns["weight"].astype(np.float64).reshape(tokens, top_k),
        )


def token_rows(
    trace: Trace, document: Integer[np.ndarray, " rows"], position: Integer[np.ndarray, " rows"]
) -> Int64[np.ndarray, " rows"]:
    """Row of `trace.tokens` that each (document, position) is in.

    Raises:
        InputError: a token that is not in the tokens table.
    """
    key = _keys(trace.tokens["document"].to_numpy(), trace.tokens["position"].to_numpy())
    order = np.argsort(key, kind="stable")
    wanted = _keys(document, position)
    rows = order[np.minimum(np.searchsorted(key, wanted, sorter=order), len(order) - 1)]
    if (key[rows] != wanted).any():
        raise InputError(
            "The routing table holds tokens that the tokens table does not. Expected both tables "
            "of one capture."
        )
    return rows


def _keys(
    document: Integer[np.ndarray, " rows"], position: Integer[np.ndarray, " rows"]
) -> Int64[np.ndarray, " rows"]:
    """One integer per (document, position)."""
    return document.astype(np.int64) << 32 | position.astype(np.int64)
