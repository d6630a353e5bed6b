"""A table in memory that is read like shards on disk: frame by frame, counting what is held."""

from __future__ import annotations

import pandas as pd


class Cut:
    """`table` cut between documents into `pieces` frames, in the order of its documents."""

    def __init__(self, table: pd.DataFrame, pieces: int) -> None:
        documents = list(dict.fromkeys(table["document"]))
        size = -(-len(documents) // pieces)
        groups = [documents[i : i + size] for i in range(0, len(documents), size)]
        self.parts = [table[table["document"].isin(group)] for group in groups]
        self.asked: list[list[str] | None] = []

    def frames(self, columns=None):
        self.asked.append(columns)
        for part in self.parts:
            yield part.reset_index(drop=True).loc[:, columns or list(part.columns)]

    def read(self, columns=None):
        return pd.concat(list(self.frames(columns)), ignore_index=True)
