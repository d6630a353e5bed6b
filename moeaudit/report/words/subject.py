"""What the rows of an operator are about: an expert, a rank, a set of ranks, or a whole layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moeaudit.frames import Frame

from .summary import OUTCOMES, Cells

# The columns of the effects that say it, besides the layer.
NAMED = {"expert": ["expert"], "rank": ["rank"], "set": ["rank", "members"], "layer": []}

# What the columns of a map are, by what a row of the effects is about: (name, of each layer, the
# cell in words, the number of the first column).
COLUMNS = {
    "expert": ("expert", "every expert", "one expert of one layer", 0),
    "rank": ("rank", "every rank", "one rank of one layer", 0),
    "set": ("set size", "sets of every size", "the sets of one size of one layer", 1),
    "layer": ("", "", "one layer", 0),
}


@dataclass(frozen=True)
class SubjectCells:
    """One row per layer and subject, as `summary.Cells` has it for experts; `expert` numbers them.

    Ranks count from 0, sets by their size from 0 for single experts; a layer has the one number 0.
    """

    subject: str
    limits: str = "student"

    @property
    def columns(self) -> list[str]:
        return ["document", "position", "layer", *NAMED[self.subject], *OUTCOMES]

    def part(self, effects: Frame) -> tuple[int, Any]:
        number = self._numbers(effects)
        return int(number.max()), Cells({}, self.limits).part(effects.assign(expert=number))

    def whole(self, parts: list[tuple[int, Any]]) -> Frame:
        count = 1 + max(most for most, _ in parts)
        layers = {int(layer) for _, (_, tokens) in parts for layer in tokens.index}
        return Cells(dict.fromkeys(layers, count), self.limits).whole([part for _, part in parts])

    def _numbers(self, effects: Frame) -> np.ndarray:
        if self.subject == "rank":
            return effects["rank"].to_numpy("int64")
        if self.subject == "set":
            members = effects["members"].to_numpy("int64")
            return np.array([m.bit_count() - 1 for m in members.tolist()], dtype="int64")
        return np.zeros(len(effects), dtype="int64")
