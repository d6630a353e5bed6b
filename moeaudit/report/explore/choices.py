"""One pass over the router's choices: use, who is chosen beside whom, and who is next in line."""

from __future__ import annotations

from typing import Any

import numpy as np

from .identity import PairSums, use_share
from .numbers import short
from .source import NEXT, Grid, Source, Tokens

MOST_BESIDE = 5


class Choices:
    """Counts by cell and by pair of experts of a layer; memory does not grow with the rows, but for token identity."""

    def __init__(self, source: Source, grid: Grid, tokens: Tokens, of_identity: np.ndarray) -> None:
        """`of_identity`: the documents that token identity is read in."""
        self.grid, self.tokens, self.of_identity = grid, tokens, of_identity
        self.chosen = np.zeros(grid.n)
        self.weight = np.zeros(grid.n)
        self.documents = np.zeros(grid.n, dtype=np.int64)
        self.both = [np.zeros((n, n)) for n in grid.sizes]
        self.after: list[np.ndarray] | None = None
        if NEXT in source.routing_columns and source.routing is not None:
            self.after = [np.zeros((n, n)) for n in grid.sizes]
        token = tokens.table["token"].to_numpy(np.int64)
        self.vocabulary = int(token.max(initial=0)) + 1
        self.by_token = PairSums(self.vocabulary)
        self.occurs, self.occurs_squared = np.zeros(self.vocabulary), np.zeros(self.vocabulary)
        self.tokens_read = 0  # of token identity
        self.used = np.zeros(grid.n)  # choices in the documents of token identity
        for frame in source.choices():
            inside = frame["layer"].isin(grid.layers).to_numpy()
            self._add({n: frame[n].to_numpy()[inside] for n in frame.columns}, token)

    def _add(self, rows: dict[str, np.ndarray], token: np.ndarray) -> None:
        cell = self.grid.cell(rows["layer"], rows["expert"])
        n = self.grid.n
        self.chosen += np.bincount(cell, minlength=n)
        self.weight += np.bincount(cell, rows["weight"].astype(np.float64), n)
        names, document = np.unique(rows["document"], return_inverse=True)
        self.documents += np.bincount(np.unique(document * n + cell) % n, minlength=n)
        place = self.tokens.rows(rows["document"], rows["position"])
        mine = np.isin(names, self.of_identity)[document]
        if mine.any():
            of, where = np.unique(document[mine], return_inverse=True)
            self._of_tokens(cell[mine], token, place[mine], where, names[of])
        layer = self.grid.places(rows["layer"])
        for i in range(len(self.grid.layers)):
            here = layer == i
            self._pairs(i, place[here], {k: v[here] for k, v in rows.items()})

    def _of_tokens(
        self,
        cell: np.ndarray,
        token: np.ndarray,
        place: np.ndarray,
        document: np.ndarray,
        names: np.ndarray,
    ) -> None:
        """How often each token stands in each document of the frame, and who was chosen at it."""
        n = self.grid.n
        of_frame = np.isin(self.tokens.table["document"].to_numpy(), names)
        where = np.searchsorted(names, self.tokens.table["document"].to_numpy()[of_frame])
        key = token[of_frame] * len(names) + where
        keys, counts = np.unique(key, return_counts=True)
        self.occurs += np.bincount(keys // len(names), counts, self.vocabulary)
        self.occurs_squared += np.bincount(keys // len(names), counts**2.0, self.vocabulary)
        self.tokens_read += int(of_frame.sum())
        self.used += np.bincount(cell, minlength=n)
        mine = token[place]
        often = counts[np.searchsorted(keys, mine * len(names) + document)].astype(np.float64)
        self.by_token.add(cell, mine, document, np.ones(len(cell)), often)

    def _pairs(self, i: int, place: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Experts of one layer that the same token chose: each row against each other row of its token."""
        order = np.lexsort((rows["rank"], place))
        at, expert = place[order], rows["expert"][order].astype(np.int64)
        size = self.grid.sizes[i]
        for apart in range(1, len(at)):
            together = at[apart:] == at[:-apart]
            if not together.any():
                break
            one, two = expert[:-apart][together], expert[apart:][together]
            self.both[i] += np.bincount(one * size + two, minlength=size**2).reshape(size, size)
        if self.after is not None:
            following = rows[NEXT][order].astype(np.int64)
            known = following >= 0
            flat = expert[known] * size + following[known]
            self.after[i] += np.bincount(flat, minlength=size**2).reshape(size, size)

    @property
    def use(self) -> np.ndarray:
        """Each cell's share of its layer's choices."""
        layer = self.grid.places(self.grid.layer)
        whole = np.bincount(layer, self.chosen, len(self.grid.layers))[layer]
        return np.divide(self.chosen, whole, out=np.full(len(whole), np.nan), where=whole > 0)

    def beside(self) -> list[list[list[Any]]]:
        """For each cell the experts most often chosen with it: [expert, share of its tokens, lift over chance]."""
        out, tokens = [], float(len(self.tokens.table))
        for i, counts in enumerate(self.both):
            both = counts + counts.T
            mine = self.chosen[self.grid.first[i] : self.grid.first[i + 1]]
            for expert in range(self.grid.sizes[i]):
                share = both[expert] / max(mine[expert], 1.0)
                order = np.argsort(-share, kind="stable")[:MOST_BESIDE]
                out.append(
                    [
                        [int(e), short(share[e]), short(share[e] / (mine[e] / tokens))]
                        for e in order
                        if share[e] > 0
                    ]
                )
        return out

    def replaced(self) -> list[list[list[Any]]] | None:
        """For each cell who is next in line: [expert, share of its tokens]; None where that was not recorded."""
        if self.after is None:
            return None
        out = []
        for counts in self.after:
            for row in counts:
                known = row.sum()
                order = np.argsort(-row, kind="stable")[:MOST_BESIDE]
                out.append([[int(e), short(row[e] / known)] for e in order if row[e] > 0])
        return out

    def explained(self) -> np.ndarray:
        """What token identity explains of each cell's use (`identity.use_share`)."""
        sums = self.by_token
        return use_share(
            sums, self.occurs, self.occurs_squared, self.used, self.tokens_read, self.documents
        )
