"""The effects table: what each counterfactual did, one row each, always the same columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.errors import RunError

if TYPE_CHECKING:
    from moeaudit.text import Chunk, TokenizedCorpus

    from .operators.routing import Operator
    from .walk.plan import Walked

COLUMNS = {
    "document": "int32",
    "position": "int32",
    "layer": "int16",
    "rank": "int8",
    "expert": "int16",
    "weight": "float32",
    "delta_nll": "float32",
    "kl": "float32",
    "flip": "bool",
}


class Effects(pd.DataFrame):
    """A DataFrame of effects that remembers which texts it was measured on.

    One row for each (document, position, layer, rank): `rank` 0 is the active expert with the
    largest weight; `position` t is the edited token and outcomes are read on the prediction of
    token t + 1; `delta_nll` and `kl` are in nats; `flip` says that the top prediction changed.
    `texts` is the tokenised corpus, `intervention` the operator's name and `operator` itself,
    `notes` what was left out, `drift` how far rows without an edit end from the clean forward, nats.
    """

    _metadata = ["texts", "intervention", "engine", "notes", "operator", "drift"]
    texts: TokenizedCorpus | None
    intervention: str
    engine: str
    notes: list[str]
    operator: Operator | None
    drift: float | None

    @property
    def _constructor(self) -> type[Effects]:
        return Effects

    @staticmethod
    def of(
        frame: pd.DataFrame,
        texts: TokenizedCorpus | None,
        intervention: str,
        engine: str,
        notes: list[str],
        *,
        operator: Operator | None = None,
        drift: float | None = None,
    ) -> Effects:
        """Wrap a frame that has the columns of COLUMNS."""
        effects = Effects(frame)
        # Plain attribute writes on a frame are taken for columns; these are metadata.
        values = (texts, intervention, engine, notes, operator, drift)
        for name, value in zip(Effects._metadata, values):
            object.__setattr__(effects, name, value)
        return effects


def walked_frame(chunk: Chunk, walked: Walked) -> pd.DataFrame:
    """The table of one chunk, sorted by (position, layer, rank)."""
    positions, rows = walked.rank.shape
    at = walked.positions.cpu().numpy() + chunk.start
    columns: dict[str, Any] = {
        "document": np.full(positions * rows, chunk.document),
        "position": np.repeat(at, rows),
        "layer": np.tile(walked.layer.cpu().numpy(), positions),
        "rank": walked.rank.cpu().numpy().reshape(-1),
        "expert": walked.expert.cpu().numpy().reshape(-1),
        "weight": walked.weight.float().cpu().numpy().reshape(-1),
        "delta_nll": walked.outcomes.delta_nll.cpu().numpy().reshape(-1),
        "kl": walked.outcomes.kl.cpu().numpy().reshape(-1),
        "flip": walked.outcomes.flip.cpu().numpy().reshape(-1),
    }
    frame = pd.DataFrame(
        {name: np.asarray(columns[name]).astype(kind) for name, kind in COLUMNS.items()}
    )
    # Further outcomes, and what an operator says of its rows besides.
    for name, values in (walked.outcomes.extra | walked.about).items():
        frame[name] = values.cpu().numpy().reshape(-1)
    return frame


@dataclass(frozen=True)
class EffectsFolder:
    """Effects streamed to a folder of Parquet shards, for tables that do not fit in memory."""

    folder: Path
    rows: int
    intervention: str
    engine: str
    notes: tuple[str, ...]
    max_length: int | None = (
        None  # how long texts were cut, so that the same pieces can be made again
    )
    drift: float | None = None

    def read(self, columns: list[str] | None = None) -> pd.DataFrame:
        """All shards as one frame."""
        return pd.concat(list(self.shards(columns)), ignore_index=True)

    def shards(self, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        """The shards in order, one frame at a time."""
        for path in sorted(self.folder.glob("*.parquet")):
            yield pd.read_parquet(path, columns=columns)

    def __repr__(self) -> str:
        return f"{self.rows:,} effects of {self.intervention} in {self.folder} ({self.engine})"


class ShardWriter:
    """Collects frames and writes a Parquet shard when enough rows have gathered."""

    def __init__(self, folder: Path, shard_rows: int = 500_000) -> None:
        if folder.exists() and any(folder.iterdir()):
            raise RunError(
                f"'{folder}' exists and is not empty. Effects are written to a new or empty folder, so that "
                "no older table is mixed in; choose another folder or remove this one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.shard_rows = folder, shard_rows
        self.held: list[pd.DataFrame] = []
        self.rows = self.held_rows = self.shards = 0

    def add(self, frame: pd.DataFrame) -> None:
        self.held.append(frame)
        self.held_rows += len(frame)
        if self.held_rows >= self.shard_rows:
            self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        path = self.folder / f"part-{self.shards:05d}.parquet"
        unfinished = path.with_suffix(".unfinished")
        pd.concat(self.held, ignore_index=True).to_parquet(unfinished, index=False)
        unfinished.rename(path)  # a shard is whole or absent
        self.rows += self.held_rows
        self.held, self.held_rows, self.shards = [], 0, self.shards + 1

    def discard(self) -> None:
        """Take back what was written: an unfinished table cannot be told from a small one."""
        for path in (*self.folder.glob("part-*.parquet"), *self.folder.glob("part-*.unfinished")):
            path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the last shard and, only then, the file that says the table is complete."""
        self.flush()
        facts = {"rows": self.rows, "shards": self.shards, **facts}
        (self.folder / "complete.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
