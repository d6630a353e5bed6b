r"""What token identity alone explains of an expert's use, or of its harm.

Two occurrences of one token in *different* documents share the token and nothing else. So the mean product of what the
expert does at them, in deviations from its mean m, over its variance, is the share that the token explains:

    share = sum_v N_v mean_{pairs of v in two documents} (y - m)(y' - m)  /  (sum_v N_v  var y)

(the intraclass correlation of Fisher, 1925, from pairs that cross documents, every occurrence counting once). It is
about 0 where nothing depends on the token, however rare tokens are, since noise is never multiplied with itself. Tokens
that stand in one document alone say nothing and are left out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from moeaudit.stats.least import DOCUMENTS_PER_EXPERT, REMOVALS_FOR_LIMITS

MOST_ROWS = (
    3_000_000  # rows looked at: of larger tables, those of documents drawn by domain (sample.py)
)
WHY_NULL = (
    f"the expert was chosen in fewer than {DOCUMENTS_PER_EXPERT} documents, or fewer than "
    f"{REMOVALS_FOR_LIMITS} of its tokens also stand in another document"
)
_SUMS = ("n", "s", "nn", "ss", "ns")


class PairSums:
    """Sums of y by (cell, token), added up over documents: n = rows, s = sum y, and n^2, s^2, n s of each document."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(
        self,
        cell: Int[np.ndarray, " rows"],
        token: Int[np.ndarray, " rows"],
        document: Int[np.ndarray, " rows"],
        y: Float[np.ndarray, " rows"],
        occurs: Float[np.ndarray, " rows"] | None = None,
    ) -> None:
        """Rows in which documents are whole. `occurs`: how often a row's token stands in its document, where the rows
        are only those of the tokens that chose the expert, and y of the others is 0."""
        width = int(document.max(initial=0)) + 1
        key, first, place = np.unique(
            (cell * self.vocabulary + token) * width + document,
            return_index=True,
            return_inverse=True,
        )
        n = np.bincount(place, minlength=len(key)).astype(np.float64)
        n = n if occurs is None else occurs[first]
        s = np.bincount(place, y, len(key))
        self._parts.append(_added(key // width, n, s, n * n, s * s, n * s))

    def table(self) -> dict[str, np.ndarray]:
        """One entry a (cell, token) that occurs: cell, token, and the sums."""
        if not self._parts:
            return {name: np.zeros(0) for name in ("cell", "token", *_SUMS)}
        key, *sums = _added(*(np.concatenate(column) for column in zip(*self._parts)))
        return {
            "cell": key // self.vocabulary,
            "token": key % self.vocabulary,
            **dict(zip(_SUMS, sums)),
        }


def _added(key: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    keys, place = np.unique(key, return_inverse=True)
    return (keys, *(np.bincount(place, column, len(keys)) for column in columns))


def harm_share(
    sums: PairSums,
    mean: Float[np.ndarray, " cells"],
    variance: Float[np.ndarray, " cells"],
    documents: Int[np.ndarray, " cells"],
) -> Float[np.ndarray, " cells"]:
    """The share of an outcome of each cell's rows; NaN where there is too little."""
    t = sums.table()
    cell = t["cell"].astype(np.int64)
    pairs, m = t["n"] ** 2 - t["nn"], mean[cell]
    product = (t["s"] ** 2 - t["ss"]) - 2 * m * (t["s"] * t["n"] - t["ns"]) + m**2 * pairs
    found = pairs > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_product = np.where(found, product / pairs * t["n"], 0.0)
        covered = np.bincount(cell, np.where(found, t["n"], 0.0), len(variance))
        share = np.bincount(cell, mean_product, len(variance)) / (covered * variance)
    enough = (documents >= DOCUMENTS_PER_EXPERT) & (covered >= REMOVALS_FOR_LIMITS) & (variance > 0)
    return np.where(enough, np.clip(share, 0.0, 1.0), np.nan)


def use_share(
    sums: PairSums,
    occurs: Float[np.ndarray, " vocabulary"],
    occurs_squared: Float[np.ndarray, " vocabulary"],
    chosen: Float[np.ndarray, " cells"],
    tokens: float | int,
    documents: Int[np.ndarray, " cells"],
) -> Float[np.ndarray, " cells"]:
    """The share of being chosen (0 or 1 at every token); `occurs` of each token, and by document squared, over all."""
    t = sums.table()
    cell, token = t["cell"].astype(np.int64), t["token"].astype(np.int64)
    p = chosen / max(tokens, 1.0)
    pairs = occurs**2 - occurs_squared
    covered = float(occurs[pairs > 0].sum())
    m, n, there = p[cell], occurs[token], pairs[token]
    product = (t["s"] ** 2 - t["ss"]) - 2 * m * (t["s"] * n - t["ns"])
    found = there > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_product = np.where(found, product / there * n, 0.0)
    total = np.bincount(cell, mean_product, len(p)) + p**2 * covered
    variance = p * (1 - p)
    used = np.bincount(cell, np.where(found, t["s"], 0.0), len(p))
    enough = (documents >= DOCUMENTS_PER_EXPERT) & (used >= REMOVALS_FOR_LIMITS) & (variance > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = total / (covered * variance)
    return np.where(enough, np.clip(share, 0.0, 1.0), np.nan)
