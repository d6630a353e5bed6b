"""Effects on disk: a folder of Parquet shards, for tables that do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd

from moeaudit.errors import RunError
from moeaudit.frames.shown import bullets, paragraph, table
from moeaudit.store.shard import KEY
from moeaudit.store.shards import MANIFEST, Shards

from .effects import COLUMNS, Effects
from .facts import Facts, Told, joined


class EffectsFolder(Told):
    """A finished table of effects in a folder; rows are read a shard at a time, or all at once.

    `question`, `engine`, `drift` and `notes` are those of `Effects`, read from the shards.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    @property
    def folder(self) -> Path:
        return self.shards.folder

    @property
    def rows(self) -> int:
        return self.shards.rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns, without reading a row."""
        return self.shards.columns

    @cached_property
    def facts(self) -> Facts:
        """Everything that is known about how the table was measured, all shards together."""
        whole = joined(list(self.shards.facts))
        # What the manifest says of the whole table: a shard may know the hash of its own texts only.
        asked = {k: v for k, v in self.shards.about.items() if k in whole and k != "question"}
        return Facts.from_dict({**whole, **asked})

    def frames(self, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        """The shards in order, each document whole in one. Raises RunError for one that is damaged."""
        return self.shards.frames(columns)

    def read(self, columns: list[str] | None = None) -> Effects:
        """All rows as one table that knows its question. Raises RunError as `frames` does."""
        return Effects.of(self.shards.read(columns), self.facts)

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"{self.rows:,} effects of {self.question} in {self.folder} ({self.engine})"

    def _repr_html_(self) -> str:
        """The sentence, and the first rows of the first shard."""
        first = next(self.frames(), None)
        shown = "" if first is None else table(first, most=5)
        return (
            paragraph(f"{self!r}: {len(self.shards.manifest)} shards.")
            + shown
            + bullets(self.notes)
        )


def effects(path: str | Path) -> EffectsFolder | Effects:
    """Open effects that were written before: a folder, a run folder, or one Parquet file.

    `path` is what `ablate(out=)` wrote, or a run (its `effects/` is taken): an `EffectsFolder`, of which
    `.read()` is the table and `.frames()` its rows a shard at a time. A file that
    `Effects.to_parquet` wrote gives the table itself. Every shard is checked against the SHA-256 of
    the manifest.

    Raises RunError for a path that holds no effects, a table that is not finished, or a damaged
    shard, which it names.
    """
    path = Path(path)
    if path.is_file():
        return _from_file(path)
    folder = path
    if not (path / MANIFEST).is_file() and (path / "effects" / MANIFEST).is_file():
        folder = path / "effects"
    shards = Shards(folder)
    if not shards.manifest:
        raise RunError(
            f"{path} holds no effects: it has no {MANIFEST} that names a shard. Give the folder of "
            "ablate(out=...) or of a run."
        )
    if shards.parts is not None and len(shards.manifest) < shards.parts:
        raise RunError(
            f"The table in {folder} is not finished: {len(shards.manifest)} of {shards.parts} shards are there. "
            "Make the same call again, which computes the rest."
        )
    if not all(shards.facts):
        raise RunError(
            f"The shards in {folder} do not say which question they answer, so they are no effects of this "
            "version of moeaudit. Measure them again into a new folder."
        )
    return EffectsFolder(shards)


def _from_file(path: Path) -> Effects:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as Parquet ({error}).") from error
    if not frame.attrs.get(KEY) or not set(COLUMNS) <= set(frame.columns):
        raise RunError(
            f"{path} is no table of effects that says its question. Give a file that Effects.to_parquet wrote, or "
            "the folder of ablate(out=...)."
        )
    return Effects.of(frame, Facts.from_dict(frame.attrs[KEY]))
