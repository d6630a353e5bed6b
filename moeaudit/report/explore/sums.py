"""One pass over the effects: everything that needs every row, added up frame by frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .contexts import Contexts
from .identity import PairSums
from .source import Grid, Source, Tokens

SUMMED = ("delta_nll", "kl", "flip", "weight")


class Effects:
    """Sums of the effects by document and cell, by token and cell, the strongest rows, and the rows of some documents.

    Held: five numbers for each document and cell, and one entry for each (cell, token) that occurs.
    """

    def __init__(
        self,
        source: Source,
        grid: Grid,
        tokens: Tokens,
        shown: dict[int, int],
        of_identity: np.ndarray,
    ) -> None:
        """`shown`: where documents that are shown are cut; `of_identity`: those that token identity is read in."""
        self.grid, self.tokens, self.of_identity = grid, tokens, of_identity
        self.documents: list[int] = []
        self.counts: list[np.ndarray] = []
        self.sums: dict[str, list[np.ndarray]] = {name: [] for name in SUMMED}
        self.squares = np.zeros(grid.n)
        self.contexts = Contexts(grid.n)
        self.rows_of_shown: list[dict[str, np.ndarray]] = []
        self.rows = 0
        token = tokens.table["token"].to_numpy(np.int64)
        self.harm_by_token = PairSums(int(token.max(initial=0)) + 1)
        for frame in source.rows():
            self._add({name: frame[name].to_numpy() for name in frame.columns}, token, shown)

    def _add(self, rows: dict[str, np.ndarray], token: np.ndarray, shown: dict[int, int]) -> None:
        cell = self.grid.cell(rows["layer"], rows["expert"])
        names, document = np.unique(rows["document"], return_inverse=True)
        shape, flat = (len(names), self.grid.n), document * self.grid.n + cell
        self.documents += names.tolist()
        self.counts.append(np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape))
        for name, parts in self.sums.items():
            values = rows[name].astype(np.float64)  # sums in float32 drift
            parts.append(np.bincount(flat, values, shape[0] * shape[1]).reshape(shape))
        harm = rows["delta_nll"].astype(np.float64)
        self.squares += np.bincount(cell, harm**2, self.grid.n)
        self.rows += len(cell)
        place = self.tokens.rows(rows["document"], rows["position"])
        mine = np.isin(names, self.of_identity)[document]
        if mine.any():
            self.harm_by_token.add(cell[mine], token[place[mine]], document[mine], harm[mine])
        self.contexts.add(cell, rows, place)
        wanted = np.isin(rows["document"], list(shown))
        if wanted.any():
            limit = np.array([shown.get(int(name), -1) for name in names])[document]
            wanted &= rows["position"] < limit
            self.rows_of_shown.append({name: values[wanted] for name, values in rows.items()})

    def count(self) -> Float[np.ndarray, "documents cells"]:
        return np.concatenate(self.counts).astype(np.float64)

    def total(self, name: str) -> Float[np.ndarray, "documents cells"]:
        return np.concatenate(self.sums[name])

    def shown(self) -> dict[str, np.ndarray]:
        """The rows of the documents that are shown whole."""
        if not self.rows_of_shown:
            return {}
        return {
            name: np.concatenate([part[name] for part in self.rows_of_shown])
            for name in self.rows_of_shown[0]
        }
