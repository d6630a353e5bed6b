"""Experts as a sample: what a metric's contrast would be if its values fell on other experts.

A metric is one number an expert, so luck over a few dozen experts is the main noise of "this metric
predicts". Tests over documents hold the experts fixed and cannot see it (Clark 1973; Judd, Westfall &
Kenny 2012). Here a layer's metrics are shuffled over its experts, all by the same shuffle, and the
contrast of the same tokens is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float, Int

from moeaudit.seeds import generator

from ..contrast.slots import Slots
from .maxt import step_down

MOST_LISTED = 6  # experts: 6! = 720 shuffles can all be listed
BLOCK_SETS, BLOCK_ORDERS = 128, 704
PIECE = 100_000  # tokens reduced at once


@dataclass(frozen=True)
class Shuffles:
    """Shuffles of a layer's active experts, the identity first.

    `places[i, j]`: whose value the expert in place j gets. `drawn` names, for each joint draw, its
    row in `places`; they are all rows in order, except where all shuffles are listed (`exact`).
    """

    expert: Int[np.ndarray, " experts"]
    places: Int[np.ndarray, "shuffles experts"]
    drawn: Int[np.ndarray, " draws"]
    exact: bool

    @classmethod
    def of(cls, slots: Slots, n_shuffles: int, seed: int) -> Shuffles:
        """Of the experts active in a layer; the stream belongs to the seed and the layer."""
        expert = np.unique(slots.expert[slots.present])
        rng = generator(seed, "shuffled experts", slots.layer)
        if len(expert) <= MOST_LISTED:
            places = np.array(list(permutations(range(len(expert)))), dtype=np.int64)
            drawn = rng.integers(0, len(places), n_shuffles + 1)
            drawn[0] = 0
            return cls(expert, places, drawn, True)
        places = np.tile(np.arange(len(expert)), (n_shuffles + 1, 1))
        places[1:] = rng.permuted(places[1:], axis=1)
        return cls(expert, places, np.arange(n_shuffles + 1), False)

    def among(self, use: np.ndarray) -> np.ndarray:
        """The order that each shuffle gives the experts in `use`, a uniform shuffle of them: places
        among these, (shuffles, used). An expert without a value keeps having none."""
        kept = self.places[:, use]
        return np.argsort(np.argsort(kept, axis=1), axis=1)


@dataclass(frozen=True)
class Null:
    """A cell under every shuffle: `statistic` signed (draws,), the cell itself first; `p` two-sided.

    `experts`: how many have a value. `reason` says why there is no p, where there is none.
    """

    statistic: Float[np.ndarray, " draws"]
    p: float
    experts: int
    reason: str | None = None

    @property
    def band(self) -> tuple[float, float]:
        """Where 95 % of the shuffles lie."""
        known = self.statistic[np.isfinite(self.statistic)]
        if self.reason is not None or len(known) == 0:
            return float("nan"), float("nan")
        low, high = np.quantile(known, [0.025, 0.975])
        return float(low), float(high)


def none(reason: str, experts: int = 0) -> Null:
    """No null, and why."""
    return Null(np.empty(0), float("nan"), experts, reason)


def nulls(
    slots: Slots,
    tables: Sequence[Float[np.ndarray, "metrics experts"]],
    part: Int[np.ndarray, " tokens"],
    shuffles: Shuffles,
) -> list[Null]:
    """The null of d_z of each metric.

    Parameters
    ----------
    tables
        Values by metric and expert (in the order of `shuffles.expert`), NaN where there is none.
        Several where tokens are scored by different tables (folds); all are shuffled alike.
    part
        The table that scores each token.
    """
    n_metrics = len(tables[0])
    sums = np.zeros((n_metrics, len(shuffles.places), 3))  # tokens, differences, their squares
    for number, table in enumerate(tables):
        mine = np.flatnonzero(part == number)
        ranks = [_ranks(values) for values in table]
        for i in range(0, len(mine), PIECE):
            sets = _Sets.of(slots, mine[i : i + PIECE], shuffles.expert)
            # Without ties and gaps the pair is two slots, and many orders can be read at once.
            plain = [
                m
                for m, r in enumerate(ranks)
                if sets.full and (r >= 0).all() and len(np.unique(r)) == len(r)
            ]
            if plain:
                orders = np.concatenate([ranks[m][shuffles.places] for m in plain])
                sums[plain] += _ends(sets, orders).reshape(len(plain), -1, 3)
            for m in sorted(set(range(n_metrics)) - set(plain)):
                use = ranks[m] >= 0
                order = np.full(shuffles.places.shape, -1)
                order[:, use] = ranks[m][use][shuffles.among(use)]
                sums[m] += _tied(sets, order)
    known = np.stack([np.isfinite(t) for t in tables]).any(axis=0).sum(axis=1)
    return [_null(s, shuffles, int(n)) for s, n in zip(sums, known)]


@dataclass(frozen=True)
class _Sets:
    """Tokens added up by their set of active experts: which two a metric names depends on the set alone.

    `column`: places of the set's experts, one past the last expert where a slot is empty; `n` tokens;
    `first` sums of the outcome by slot, `second` of its products by pair of slots.
    """

    column: Int[np.ndarray, "sets top_k"]
    n: Float[np.ndarray, " sets"]
    first: Float[np.ndarray, "sets top_k"]
    second: Float[np.ndarray, "sets top_k top_k"]
    full: bool

    @classmethod
    def of(cls, slots: Slots, tokens: np.ndarray, expert: np.ndarray) -> _Sets:
        present = slots.present[tokens]
        column = np.where(present, np.searchsorted(expert, slots.expert[tokens]), len(expert))
        order = np.argsort(column, axis=1, kind="stable")
        column = np.take_along_axis(column, order, axis=1)
        value = np.take_along_axis(np.where(present, slots.value[tokens], 0.0), order, axis=1)
        by_set = np.lexsort(column.T[::-1])
        column, value = column[by_set], value[by_set]
        new = np.append(True, (column[1:] != column[:-1]).any(axis=1))
        start = np.flatnonzero(new)
        second = np.add.reduceat(value[:, :, None] * value[:, None, :], start)
        n = np.diff(np.append(start, len(column))).astype(float)
        return cls(column[start], n, np.add.reduceat(value, start), second, bool(present.all()))


def _null(sums: np.ndarray, shuffles: Shuffles, experts: int) -> Null:
    n, first, second = sums.T
    if experts < 2:
        return none("fewer than two active experts have a value to shuffle", experts)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = first / n
        variance = (second / n - mean**2) * n / (n - 1)
        d = mean / np.sqrt(variance)
    # Without two tokens, or without a spread, a shuffle has no size and cannot be larger.
    d = np.where((n > 1) & (variance > 1e-12 * second / np.maximum(n, 1)), d, 0.0)
    if not (n[0] > 1 and d[0] != 0):
        return none("the contrast itself has no size", experts)
    reach = np.abs(d[0]) * (1 - 1e-9)  # what differs by rounding alone is a tie
    return Null(d[shuffles.drawn], float((np.abs(d) >= reach).mean()), experts)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places of the values, equal ones sharing one; -1 where there is no value."""
    out = np.full(len(values), -1)
    known = np.isfinite(values)
    out[known] = np.unique(values[known], return_inverse=True)[1]
    return out


def _ends(sets: _Sets, orders: np.ndarray) -> np.ndarray:
    """Tokens, sum and sum of squares of (outcome of the last - outcome of the first in the order), for
    each order of the experts: (orders, 3).

    A slot's key holds its expert's place and, in the low bits, the slot; so the largest and smallest
    key of a set name the two slots. What they give is looked up, the difference and its square as one
    complex number.
    """
    count, k = sets.column.shape
    stride = 1 << (k - 1).bit_length()
    kind = next(
        t
        for t in (np.uint8, np.uint16, np.uint32)
        if orders.shape[1] * stride <= np.iinfo(t).max + 1
    )
    square = np.einsum("uss->us", sets.second)
    look = np.zeros((count, stride, stride), dtype=complex)
    look[:, :k, :k].real = sets.first[:, :, None] - sets.first[:, None, :]
    look[:, :k, :k].imag = square[:, :, None] + square[:, None, :] - 2 * sets.second
    look = look.reshape(count, -1)
    out = np.zeros((len(orders), 3))
    out[:, 0] = sets.n.sum()
    for a in range(0, len(orders), BLOCK_ORDERS):
        keys = (orders[a : a + BLOCK_ORDERS].T * stride).astype(kind)  # (experts, orders)
        total = np.zeros(keys.shape[1], dtype=complex)
        for b in range(0, count, BLOCK_SETS):
            part = sets.column[b : b + BLOCK_SETS]
            top = keys[part[:, 0]]
            bottom = top.copy()
            for slot in range(1, k):
                mine = keys[part[:, slot]] | kind(slot)
                np.maximum(top, mine, out=top)
                np.minimum(bottom, mine, out=bottom)
            place = (top & kind(stride - 1)).astype(np.intp) * stride
            place += bottom & kind(stride - 1)
            place += (np.arange(len(part)) * stride**2)[:, None]
            total += look[b : b + len(part)].ravel().take(place, mode="clip").sum(axis=0)
        out[a : a + len(total), 1], out[a : a + len(total), 2] = np.real(total), np.imag(total)
    return out


def _tied(sets: _Sets, orders: np.ndarray) -> np.ndarray:
    """As `_ends`, by the rules of `cells.pair` for equal places and for experts without one (-1)."""
    out = np.zeros((len(orders), 3))
    none_last = np.append(orders, np.full((len(orders), 1), -1), axis=1)  # for empty slots
    for i, order in enumerate(none_last):
        place = order[sets.column]
        scored = place >= 0
        top = place.max(axis=1)
        bottom = np.where(scored, place, np.iinfo(place.dtype).max).min(axis=1)
        high = scored & (place == top[:, None])
        low = scored & (place == bottom[:, None])
        share = high / np.maximum(high.sum(axis=1, keepdims=True), 1)
        share = share - low / np.maximum(low.sum(axis=1, keepdims=True), 1)
        share[top <= bottom] = 0.0
        square = np.einsum("us,ust,ut->", share, sets.second, share)
        out[i] = sets.n[top > bottom].sum(), (share * sets.first).sum(), square
    return out


def joint_p(family: Sequence[Null]) -> np.ndarray:
    """Step-down max-T over the cells of a family, by their aligned draws; NaN where there is no p.

    Each cell is put on the scale of its own shuffles (the root of their mean square, the cell itself
    among them), since layers differ in how far apart their experts are.
    """
    out = np.full(len(family), np.nan)
    known = [i for i, null in enumerate(family) if null.reason is None]
    if not known:
        return out
    size = np.stack([np.abs(family[i].statistic) for i in known])
    scale = np.sqrt((size**2).mean(axis=1, keepdims=True))
    size = size / np.where(scale > 0, scale, 1.0)
    draws = [
        row[1:] + 1e-9 * row[0] for row in size
    ]  # rounding makes no draw smaller than the cell
    out[known] = step_down(size[:, 0], draws)
    return out
