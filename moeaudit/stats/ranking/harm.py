"""The expected harm of removing each expert of a layer, and how well it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..contrast.frames import EffectsReader, Rows
from ..least import DOCUMENTS_PER_EXPERT


@dataclass(frozen=True)
class Harm:
    """One layer's effects summed by document and expert, for the experts seen often enough."""

    layer: int
    expert: np.ndarray
    total: Float[np.ndarray, "documents experts"]
    count: Float[np.ndarray, "documents experts"]
    tokens: Float[np.ndarray, " documents"]
    n_dropped: int
    per: str

    def mean(self, weights: Float[np.ndarray, "sets documents"]) -> np.ndarray:
        """Expected harm of each expert under document weights, (sets, experts); NaN without data."""
        count = weights @ self.count
        below = count if self.per == "active_token" else (weights @ self.tokens)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(count > 0, (weights @ self.total) / below, np.nan)


class HarmSums:
    """An effects table added up by document and expert, frame by frame; no row is held.

    Memory: two numbers (three with `weight`) for each document, layer and expert. Each document lies
    in one frame and its tokens are added in order, so the sums do not depend on the frames.
    """

    def __init__(
        self,
        effects: Any,
        outcome: str,
        layers: Sequence[int] | None = None,
        *,
        weight: bool = False,
    ) -> None:
        reader = EffectsReader(effects, outcome, layers, weight=weight)
        self._blocks: dict[int, list[_Block]] = {}
        for rows in reader:
            self._blocks.setdefault(rows.layer, []).append(_Block.of(rows))
        self.layers, self.n_documents = reader.chosen(), len(reader.names)
        self.documents = reader.documents
        self._codes = reader.codes

    def harm(
        self, layer: int, per: str, of: str = "value", least: int = DOCUMENTS_PER_EXPERT
    ) -> Harm:
        """One layer's sums of the outcome, or of the gate weight (`of="weight"`), by expert.

        Experts active in fewer than `least` documents are dropped, and counted.
        """
        blocks = self._blocks[layer]
        shape = (self.n_documents, max(b.count.shape[1] for b in blocks))
        total, count, tokens = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
        for block in blocks:
            rows, width = self._codes[block.document], block.count.shape[1]
            total[rows, :width] = block.weight if of == "weight" else block.value
            count[rows, :width] = block.count
            tokens[rows] = block.tokens
        seen = (count > 0).sum(axis=0)
        keep = seen >= max(1, min(least, self.n_documents))
        dropped = int(((seen > 0) & ~keep).sum())
        expert = np.flatnonzero(keep)
        return Harm(layer, expert, total[:, keep], count[:, keep], tokens, dropped, per)


@dataclass(frozen=True)
class _Block:
    """Sums over one frame's rows of a layer: (documents of the frame, experts)."""

    document: Int[np.ndarray, " block"]
    value: Float[np.ndarray, "block experts"]
    weight: Float[np.ndarray, "block experts"] | None
    count: Float[np.ndarray, "block experts"]
    tokens: Float[np.ndarray, " block"]

    @classmethod
    def of(cls, rows: Rows) -> _Block:
        document, place = np.unique(rows.document, return_inverse=True)
        width = int(rows.expert.max()) + 1
        flat = place * width + rows.expert

        def sums(values: np.ndarray | None) -> np.ndarray:
            found = np.bincount(flat, values, len(document) * width)
            return found.reshape(-1, width).astype(np.float64)

        weight = None if rows.weight is None else sums(rows.weight)
        tokens = np.bincount(place[rows.first], minlength=len(document)).astype(np.float64)
        return cls(document, sums(rows.value), weight, sums(None), tokens)
