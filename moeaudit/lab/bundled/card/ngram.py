"""Unigram and trigram baselines: what a model must beat before its routing means anything.

The trigram is interpolated Kneser-Ney (Kneser and Ney, 1995; Chen and Goodman, 1999), the
strongest of the classic smoothings, with one discount an order, D = n1 / (n1 + 2 n2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from ...training.data import Tokens

Keys = Int64[np.ndarray, " entries"]
Probability = Float64[np.ndarray, " targets"]


@dataclass(frozen=True)
class _Table:
    """Sorted keys with a count each; a key not there counts zero."""

    keys: Keys
    counts: Float64[np.ndarray, " entries"]

    def __call__(self, wanted: Int64[np.ndarray, " targets"]) -> Probability:
        place = np.searchsorted(self.keys, wanted).clip(max=max(0, len(self.keys) - 1))
        if not len(self.keys):
            return np.zeros(len(wanted))
        return np.where(self.keys[place] == wanted, self.counts[place], 0.0)


def _tally(
    keys: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"] | None = None
) -> _Table:
    unique, inverse = np.unique(keys, return_inverse=True)
    return _Table(unique, np.bincount(inverse, weights, minlength=len(unique)).astype(np.float64))


def _discount(counts: Float64[np.ndarray, " entries"]) -> float:
    once, twice = float((counts == 1).sum()), float((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.0


class _Order:
    """One order of the model: max(c - D, 0) / c(context) + D types(context) / c(context) * lower."""

    def __init__(self, grams: _Table, base: int) -> None:
        self.grams, self.base = grams, base
        self.discount = _discount(grams.counts)
        self.total = _tally(grams.keys // base, grams.counts)
        self.types = _tally(grams.keys // base)

    def __call__(self, keys: Int64[np.ndarray, " targets"], lower: Probability) -> Probability:
        context = keys // self.base
        total = self.total(context)
        seen = total > 0
        safe = np.where(seen, total, 1.0)
        high = np.maximum(self.grams(keys) - self.discount, 0.0) / safe
        return np.where(seen, high + self.discount * self.types(context) / safe * lower, lower)


def windows(
    documents: Sequence[Tokens],
) -> tuple[Int64[np.ndarray, "targets 3"], Int64[np.ndarray, " targets"]]:
    """(two tokens before, target) for every token but a document's first, and its document.

    Before the second token of a document stands its first one twice.
    """
    parts, owner = [], []
    for d, ids in enumerate(documents):
        padded = np.concatenate((ids[:1], ids)).astype(np.int64)
        if len(padded) > 2:
            parts.append(np.lib.stride_tricks.sliding_window_view(padded, 3))
            owner.append(np.full(len(padded) - 2, d, dtype=np.int64))
    return np.concatenate(parts), np.concatenate(owner)


class Trigram:
    """Kneser-Ney trigram and add-one unigram of the same documents."""

    def __init__(self, documents: Sequence[Tokens], vocabulary: int) -> None:
        v = self.vocabulary = vocabulary
        grams, _ = windows(documents)
        three = _tally((grams[:, 0] * v + grams[:, 1]) * v + grams[:, 2])
        # Lower orders count distinct left neighbours, not occurrences: the heart of the method.
        two = _tally(three.keys % (v * v))
        one = _tally(two.keys % v)
        self._three, self._two, self._one = _Order(three, v), _Order(two, v), _Order(one, v)
        self._unigram = np.bincount(grams[:, 2], minlength=v) + 1.0
        self._unigram /= self._unigram.sum()

    def unigram(self, grams: Integer[np.ndarray, "targets 3"]) -> Probability:
        """P(target)."""
        return self._unigram[grams[:, 2]]

    def trigram(self, grams: Integer[np.ndarray, "targets 3"]) -> Probability:
        """P(target | the two tokens before it)."""
        v = self.vocabulary
        uniform = np.full(len(grams), 1.0 / v)
        low = self._one(grams[:, 2].astype(np.int64), uniform)
        middle = self._two(grams[:, 1] * v + grams[:, 2], low)
        return self._three((grams[:, 0] * v + grams[:, 1]) * v + grams[:, 2], middle)
