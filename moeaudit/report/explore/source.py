"""Where the numbers of experts and tokens come from: a run, or effects in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.stats.contrast.checks import as_frame

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun

NEEDS = ["document", "position", "layer", "rank", "expert", "weight", "delta_nll", "kl", "flip"]
TOP = "top"  # the most probable next token after the edit; tables of before have no such column
NEXT = "next"  # the expert that the router would take next, in the routing table; not in those of before


@dataclass(frozen=True)
class Source:
    """Effects of one active expert each, and what is known of the tokens beside them.

    `effects` and `routing` are tables, or shards with `frames(columns)`. `tokens` has document, domain,
    position, token, text and, where known, target, nll, confidence, correct and top. `experts` says how many
    experts each layer has, `strings` the text of token ids, `share` which part of all removals was made.
    """

    model: str
    operator: str
    effects: Any
    tokens: Frame
    experts: Mapping[int, int]
    columns: tuple[str, ...]
    routing: Any = None
    routing_columns: tuple[str, ...] = ()
    metrics: Frame | None = None
    share: float = 1.0
    seed: int = 0
    strings: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of_run(cls, run: StoredRun) -> Source:
        from moeaudit.store.shards import Shards

        effects, routing = run.shards, Shards(run.folder / "routing")
        experts = {int(layer): n for layer, n in run.record["model"]["num_experts"].items()}
        return cls(
            model=run.spec.model,
            operator=str(run.question),
            effects=effects,
            tokens=run.tokens,
            experts={layer: experts[layer] for layer in sorted(run.spec.layers)},
            columns=tuple(effects.columns),
            routing=routing,
            routing_columns=tuple(routing.columns),
            metrics=run.experts,
            share=run.question.share,
            seed=run.spec.seed,
            strings=strings_of(run.tokens if run.vocabulary is None else run.vocabulary),
        )

    def rows(self) -> Iterator[Frame]:
        """The effects, frame by frame, with the edited top prediction where it was recorded."""
        more = [TOP] if TOP in self.columns else []
        for frame in _frames(self.effects, NEEDS, more, "The effects table"):
            inside = frame["layer"].isin(list(self.experts))
            yield frame if inside.all() else frame[inside]

    def choices(self) -> Iterator[Frame]:
        """All choices of the router, frame by frame; the effects themselves where they are all of them."""
        columns = ["document", "position", "layer", "rank", "expert", "weight"]
        if self.routing is None:
            yield from _frames(self.effects, columns, [], "The effects table")
            return
        more = [NEXT] if NEXT in self.routing_columns else []
        yield from _frames(self.routing, columns, more, "The routing table")


@dataclass(frozen=True)
class Grid:
    """Every (layer, expert) in order: the cells."""

    layers: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, experts: Mapping[int, int]) -> Grid:
        layers = tuple(sorted(experts))
        return cls(layers, tuple(experts[layer] for layer in layers))

    @property
    def first(self) -> np.ndarray:
        """The cell of expert 0 of each layer, and the number of all cells."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @property
    def layer(self) -> np.ndarray:
        return np.repeat(np.array(self.layers, dtype=np.int64), self.sizes)

    @property
    def expert(self) -> np.ndarray:
        return np.concatenate([np.arange(size) for size in self.sizes])

    def cell(self, layer: np.ndarray, expert: np.ndarray) -> np.ndarray:
        return self.first[np.searchsorted(self.layers, layer)] + expert.astype(np.int64)

    def places(self, values: np.ndarray) -> np.ndarray:
        """The place of each layer in `layers`."""
        return np.searchsorted(self.layers, values)


class Tokens:
    """The tokens table by (document, position), without a join over all rows."""

    def __init__(self, tokens: Frame) -> None:
        self.table = tokens.sort_values(["document", "position"], kind="stable").reset_index(
            drop=True
        )
        self._key = _key(self.table["document"].to_numpy(), self.table["position"].to_numpy())

    def rows(self, document: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The row of the table that each (document, position) has; neighbours are looked up once."""
        key = _key(document, position)
        if not len(key):
            return key
        starts = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
        place = np.searchsorted(self._key, key[starts])
        return np.repeat(place, np.diff(np.append(starts, len(key))))


def _frames(table: Any, needs: list[str], more: list[str], name: str) -> Iterator[Frame]:
    """The frames of a table; -1 in those of `more` that a frame has not, as the shards of an earlier version."""
    whole = isinstance(table, pd.DataFrame) or not hasattr(table, "frames")
    for frame in [table] if whole else table.frames([*needs, *more]):
        there = [column for column in more if column in frame]
        lacking = {column: -1 for column in more if column not in there}
        yield as_frame(frame, [*needs, *there], name).assign(**lacking)


def strings_of(tokens: Frame) -> dict[int, str]:
    """The text of the token ids that a table of tokens, or a vocabulary, holds."""
    known = tokens.drop_duplicates("token")
    return {int(t): str(s) for t, s in zip(known["token"], known["text"])}


def _key(document: np.ndarray, position: np.ndarray) -> np.ndarray:
    return document.astype(np.int64) << 32 | position.astype(np.int64)


def per_expert(question: Any) -> str | None:
    """Why the rows of this question are not about one active expert each; None if they are."""
    if question.per_expert:
        return None
    return (
        f"The rows of the operator {question.name!r} are not about one active expert each, so no expert has a card "
        "of its own."
    )
