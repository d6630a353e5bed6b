"""The tokens at which removing an expert does most and least, with the words around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moeaudit.frames import Frame

from .numbers import short

STRONG, WEAK = 6, 3
BEFORE = 48  # characters in front of the token
KEPT = ("document", "position", "weight", "delta_nll", "kl")


class Contexts:
    """The rows of each cell with the largest and the smallest |harm|, kept frame by frame."""

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, cell: np.ndarray, rows: Mapping[str, np.ndarray], place: np.ndarray) -> None:
        """`place` is the row of the tokens table of each."""
        columns = {name: rows[name] for name in (*KEPT, "top") if name in rows}
        self._parts.append(_ends({"cell": cell, "place": place, **columns}))

    def table(self) -> dict[str, np.ndarray]:
        """The kept rows by cell, strongest first, with `strong` and `weak` marked."""
        names = self._parts[0]
        return _ends({n: np.concatenate([part[n] for part in self._parts]) for n in names})


def _ends(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    cell = columns["cell"]
    order = np.lexsort((-np.abs(columns["delta_nll"]), cell))
    cell = cell[order]
    starts = np.concatenate([[0], np.flatnonzero(cell[1:] != cell[:-1]) + 1]).astype(np.int64)
    sizes = np.diff(np.append(starts, len(cell)))
    rank = np.arange(len(cell)) - np.repeat(starts, sizes)
    left = np.repeat(sizes, sizes) - 1 - rank
    strong = rank < STRONG
    weak = ~strong & (left < WEAK)
    kept = strong | weak
    out = {name: values[order][kept] for name, values in columns.items()}
    return out | {"strong": strong[kept]}


def contexts(
    kept: Mapping[str, np.ndarray], tokens: Frame, cells: int, strings: Mapping[int, str]
) -> list[dict[str, list[dict[str, Any]]]]:
    """One entry a cell: its strongest and its weakest rows; `tokens` is in the order of the places."""
    out: list[dict[str, list[dict[str, Any]]]] = [{"strong": [], "weak": []} for _ in range(cells)]
    words = Words(tokens, strings)
    for i in range(len(kept["cell"])):
        place = int(kept["place"][i])
        row = {
            "d": int(kept["document"][i]),
            "p": int(kept["position"][i]),
            **words.around(place),
            "weight": short(kept["weight"][i]),
            "delta_nll": short(kept["delta_nll"][i]),
            "kl": short(kept["kl"][i]),
            "top": words.top(place),
            "edited": words.text(int(kept["top"][i])) if "top" in kept else None,
        }
        side = out[int(kept["cell"][i])]
        if kept["strong"][i]:
            side["strong"].append(row)
        else:
            side["weak"].insert(0, row)  # the weakest first
    return out


class Words:
    """What stands around a token, and what was predicted there."""

    def __init__(self, tokens: Frame, strings: Mapping[int, str]) -> None:
        self.document = tokens["document"].to_numpy()
        self.position = tokens["position"].to_numpy()
        self.texts = [str(text) for text in tokens["text"]]
        self.target = tokens["target"].to_numpy() if "target" in tokens else None
        self.tops = tokens["top"].to_numpy() if "top" in tokens else None
        self.strings = strings

    def _follows(self, place: int) -> bool:
        """Whether the token before it in the table is the token before it in the text."""
        same = self.document[place - 1] == self.document[place]
        return bool(same and self.position[place - 1] + 1 == self.position[place])

    def text(self, token: int) -> str | None:
        """The text of a token id, where it is known."""
        return self.strings.get(token)

    def top(self, place: int) -> str | None:
        """The clean top prediction."""
        return None if self.tops is None else self.text(int(self.tops[place]))

    def following(self, place: int) -> str | None:
        """The token that the row's prediction is of."""
        if place + 1 < len(self.texts) and self._follows(place + 1):
            return self.texts[place + 1]
        return None if self.target is None else self.text(int(self.target[place]))

    def around(self, place: int) -> dict[str, str | None]:
        before, at = "", place
        while at > 0 and len(before) < BEFORE and self._follows(at):
            at -= 1
            before = self.texts[at] + before
        return {
            "before": before[-BEFORE:],
            "token": self.texts[place],
            "next": self.following(place),
        }
