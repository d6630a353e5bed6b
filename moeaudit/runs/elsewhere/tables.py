"""The tables that a run's folder and its folder of other domains both have, read when they are asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from moeaudit.frames import Frame
from moeaudit.store.files import read_table
from moeaudit.store.shards import Shards

from .domains import ACROSS, BY_DOMAIN


class FolderTables:
    """A base for what reads `tokens`, `documents`, `effects` and the tables by domain from `folder`."""

    folder: Path

    @cached_property
    def tokens(self) -> Frame:
        return read_table(self.folder / "tokens.parquet")

    @cached_property
    def documents(self) -> Frame:
        return read_table(self.folder / "documents.parquet")

    @property
    def shards(self) -> Shards:
        """The effects, a shard at a time (`.frames(columns)`), for more rows than memory holds."""
        return Shards(self.folder / "effects")

    @cached_property
    def effects(self) -> Frame:
        return self.shards.read()

    @cached_property
    def domains(self) -> Frame:
        return read_table(self.folder / f"{BY_DOMAIN}.parquet")

    @cached_property
    def across_domains(self) -> Frame:
        return read_table(self.folder / f"{ACROSS}.parquet")
