"""Effect sizes of order: matched-pairs rank-biserial, Cliff's delta, common-language effect.

Each is a sum over pairs of tokens, so it reduces to a matrix over pairs of documents, and a
bootstrap over documents is a quadratic form in their weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

NAMES = ("rank_biserial", "cliffs_delta", "cles")


@dataclass(frozen=True)
class Dominance:
    """Sums over pairs of tokens by pair of documents.

    `walsh[a, b]` sums sign(d_i + d_j) over i in a, j in b with d = high - low nonzero; `cross[a, b]`
    sums sign(high_i - low_j). `sign`, `nonzero`, `count` are sums over each document's own tokens.
    """

    walsh: Float[np.ndarray, "documents documents"]
    cross: Float[np.ndarray, "documents documents"]
    sign: Float[np.ndarray, " documents"]
    nonzero: Float[np.ndarray, " documents"]
    count: Float[np.ndarray, " documents"]


def dominance(
    document: Int[np.ndarray, " tokens"],
    high: Float[np.ndarray, " tokens"],
    low: Float[np.ndarray, " tokens"],
    n_documents: int,
) -> Dominance:
    """Reduce a cell to document pairs; time tokens * documents, memory one block of that."""
    d = high - low
    use = d != 0
    return Dominance(
        walsh=_sign_sums(d[use], -d[use], document[use], n_documents),
        cross=_sign_sums(high, low, document, n_documents),
        sign=np.bincount(document, np.sign(d), n_documents).astype(np.float64),
        nonzero=np.bincount(document[use], minlength=n_documents).astype(np.float64),
        count=np.bincount(document, minlength=n_documents).astype(np.float64),
    )


def _sign_sums(
    x: np.ndarray, y: np.ndarray, document: np.ndarray, n_documents: int, block: int = 64
) -> np.ndarray:
    """Sum of sign(x_i - y_j) over i in document a and j in document b, (documents, documents)."""
    order = np.argsort(y, kind="stable")
    below = np.searchsorted(y[order], x, side="left")
    upto = np.searchsorted(y[order], x, side="right")
    total = np.bincount(document, minlength=n_documents)
    by_row = np.argsort(document, kind="stable")
    held = np.flatnonzero(total)
    starts = np.concatenate([[0], np.cumsum(total[held])[:-1]])
    out = np.zeros((n_documents, n_documents))
    for first in range(0, n_documents, block):
        columns = np.arange(first, min(first + block, n_documents))
        hit = document[order][:, None] == columns  # (tokens, block)
        smaller = np.zeros((len(y) + 1, len(columns)), dtype=np.int32)
        np.cumsum(hit, axis=0, out=smaller[1:])
        # sign = (number of y below x) - (number above), and above = total - (number up to x)
        net = smaller[below] + smaller[upto] - total[columns]
        if len(held):
            out[held[:, None], columns] = np.add.reduceat(net[by_row], starts, axis=0)
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
