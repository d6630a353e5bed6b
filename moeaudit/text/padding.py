"""Padding tokens at the ends of rows: a batch's filling, and no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

Ids = Int64[np.ndarray, " tokens"]


@dataclass(frozen=True)
class Padding:
    """The ids that fill rows up, and those of them that may also begin or end a text (kept once)."""

    ids: frozenset[int] = frozenset()
    marks: frozenset[int] = frozenset()

    @classmethod
    def of(cls, model: Any) -> Padding:
        """What the tokenizer and the configuration of a model call padding; nothing where neither says."""
        config = getattr(getattr(model, "hf", None), "config", None)
        places = [model.tokenizer, None if config is None else config.get_text_config()]
        return cls(_found(places, "pad_token_id"), _found(places, "bos_token_id", "eos_token_id"))

    def ends(self, ids: Ids) -> tuple[int, int]:
        """Length of the run of one padding id that a row begins with, and of that it ends with."""
        return self._run(ids), self._run(ids[::-1])

    def _run(self, ids: Ids) -> int:
        if not len(ids) or int(ids[0]) not in self.ids:
            return 0
        other = ids != ids[0]
        return int(np.argmax(other)) if other.any() else len(ids)

    def padded(self, rows: Sequence[np.ndarray]) -> bool:
        """Whether rows look like a padded batch: a run of two somewhere, or one at the end of rows of one length.

        A single padding id that is also the end of a text is one.
        """
        if any(max(self.ends(row)) > 1 for row in rows):
            return True
        if len(rows) < 2 or len({len(row) for row in rows}) > 1:
            return False
        filled = [max(self.ends(row)) > 0 and not self._marked(row) for row in rows]
        return any(filled) and not all(filled)

    def _marked(self, row: Ids) -> bool:
        return bool({int(row[0]), int(row[-1])} & self.marks & self.ids)

    def strip(self, row: Ids) -> Int64[np.ndarray, " fewer"]:
        """The row without padding at its ends; of a mark that fills, one stays."""
        start, end = self.ends(row)
        if start == len(row):
            return row[:0]
        if start and int(row[0]) in self.marks:
            start -= 1
        if end and int(row[-1]) in self.marks:
            end -= 1
        return row[start : len(row) - end]


def _found(places: list[Any], *names: str) -> frozenset[int]:
    values: set[int] = set()
    for place in places:
        for name in names:
            value = getattr(place, name, None)
            for each in value if isinstance(value, list | tuple) else [value]:
                if isinstance(each, int) and each >= 0:
                    values.add(each)
    return frozenset(values)
