"""Effect sizes of order: matched-pairs rank-biserial, Cliff's delta, common-language effect.

Each is a sum over pairs of tokens, so it reduces to a matrix over pairs of documents, and a
bootstrap over documents is a quadratic form in their weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

NAMES = ("rank_biserial", "cliffs_delta", "cles")


@dataclass(frozen=True)
class Dominance:
    """A cell's tokens, and their sums by document and by pair of documents (made when asked for).

    `walsh[a, b]` sums sign(d_i + d_j) over i in a, j in b with d = high - low nonzero; `cross[a, b]`
    sums sign(high_i - low_j). `sign`, `nonzero`, `count` are sums over each document's own tokens.
    """

    document: Int[np.ndarray, " tokens"]
    high: Float[np.ndarray, " tokens"]
    low: Float[np.ndarray, " tokens"]
    n_documents: int

    @cached_property
    def walsh(self) -> Float[np.ndarray, "documents documents"]:
        d = self.high - self.low
        use = d != 0
        return sign_sums(d[use], -d[use], self.document[use], self.n_documents)

    @cached_property
    def cross(self) -> Float[np.ndarray, "documents documents"]:
        return sign_sums(self.high, self.low, self.document, self.n_documents)

    @cached_property
    def sign(self) -> Float[np.ndarray, " documents"]:
        return self._sums(np.sign(self.high - self.low))

    @cached_property
    def nonzero(self) -> Float[np.ndarray, " documents"]:
        return self._sums((self.high != self.low).astype(np.float64))

    @cached_property
    def count(self) -> Float[np.ndarray, " documents"]:
        return self._sums(np.ones(len(self.high)))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.document, values, self.n_documents).astype(np.float64)


def sign_sums(
    x: Float[np.ndarray, " tokens"],
    y: Float[np.ndarray, " tokens"],
    document: Int[np.ndarray, " tokens"],
    n_documents: int,
    block: int = 32,
) -> Float[np.ndarray, "documents documents"]:
    """Sum of sign(x_i - y_j) over i in document a and j in document b, exact with ties.

    sign = (number of y below x) + (number of y up to x) - (number of y), and both numbers are
    prefixes of the sorted y: time tokens * (log tokens + block + documents^2 / block).
    """
    order = np.argsort(y, kind="stable")
    ordered, of_y = y[order], document[order]
    total = np.bincount(document, minlength=n_documents).astype(np.float64)
    out = np.zeros((n_documents, n_documents))
    for side in ("left", "right"):
        prefix = np.searchsorted(ordered, x, side=side)
        out += _prefix_sums(prefix, document, of_y, n_documents, block)
    return out - np.outer(total, total)


def _prefix_sums(
    prefix: np.ndarray, document: np.ndarray, of_y: np.ndarray, n_documents: int, block: int
) -> np.ndarray:
    """For x in document a, the y of document b among the first `prefix` sorted ones, summed.

    Whole blocks of y go through one matrix product, the rest of a prefix one place at a time.
    """
    n_blocks = len(of_y) // block + 1
    size = n_documents * n_documents
    held = np.arange(len(of_y)) // block * n_documents + of_y
    starts = np.zeros((n_blocks, n_documents))  # y of each document before each block
    counts = np.bincount(held, minlength=n_blocks * n_documents)
    np.cumsum(counts.reshape(n_blocks, n_documents)[:-1], axis=0, out=starts[1:])
    whole, rest = np.divmod(prefix, block)
    places = np.bincount(whole * n_documents + document, minlength=n_blocks * n_documents)
    out = places.reshape(n_blocks, n_documents).T.astype(np.float64) @ starts
    for place in range(block):
        longer = np.flatnonzero(rest > place)
        if len(longer) == 0:
            break
        pair = document[longer] * n_documents + of_y[whole[longer] * block + place]
        out += np.bincount(pair, minlength=size).reshape(n_documents, n_documents)
    return out


def values(
    d: Dominance, name: str, weights: Float[np.ndarray, "sets documents"] | None = None
) -> Float[np.ndarray, " sets"]:
    """An effect size under document weights, as if each document were there that many times.

    rank_biserial = (R+ - R-) / (R+ + R-), R the sums of ranks of |d| over positive and negative d,
    zeros dropped (Kerby 2014). cliffs_delta = P(high_i > low_j) - P(high_i < low_j) over all pairs
    of tokens (Cliff 1993); cles = (delta + 1) / 2, McGraw & Wong's (1992) common-language effect
    with ties halved.
    """
    w = np.ones((1, len(d.count))) if weights is None else weights
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "rank_biserial":
            n = w @ d.nonzero
            # R+ - R- counts each unordered pair, a token with itself included.
            total = ((w @ d.walsh) * w).sum(axis=1) + w @ d.sign
            return np.where(n > 0, total / (n * (n + 1)), np.nan)
        n = w @ d.count
        delta = np.where(n > 0, ((w @ d.cross) * w).sum(axis=1) / n**2, np.nan)
    return delta if name == "cliffs_delta" else (delta + 1) / 2


def influence(
    document: Int[np.ndarray, " tokens"],
    high: Float[np.ndarray, " tokens"],
    low: Float[np.ndarray, " tokens"],
    name: str,
    n_documents: int,
) -> Float[np.ndarray, " documents"]:
    """Derivative of the effect size by each document's weight (Hajek projection), no matrix made."""
    if name == "rank_biserial":
        d = high - low
        use = d != 0
        x, n = d[use], int(use.sum())
        row = _net(x, -x)  # sum over j of sign(d_i + d_j)
        pairs = n * (n + 1)
        estimate = (row.sum() + np.sign(x).sum()) / pairs
        token = (2 * row + np.sign(x) - estimate * (2 * n + 1)) / pairs
        token -= token.mean()  # of order 1 / n^2: the statistic is not quite a ratio of weights
        return np.bincount(document[use], token, n_documents)
    n = len(high)
    up, down = _net(high, low), -_net(low, high)
    token = (up + down) / n**2 - 2 * up.sum() / n**3
    scale = 1.0 if name == "cliffs_delta" else 0.5
    return scale * np.bincount(document, token, n_documents)


def _net(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each x_i the number of y below it less the number above it."""
    ordered = np.sort(y)
    return (
        np.searchsorted(ordered, x, side="left")
        + np.searchsorted(ordered, x, side="right")
        - len(y)
    ).astype(np.float64)
