"""Resampled data sets as sums: whole documents drawn with replacement, or turned in sign."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import sparse
from scipy.stats import norm, t

from moeaudit.errors import InputError
from moeaudit.seeds import check_seed

# More documents than this are pooled at random into as many units of equal number of documents.
# The variance between such units estimates the same variance (the random-group method, Wolter
# 2007, chapter 2); with 2,000 its own relative error is 1.6 %, below that of 1,000 draws (2.2 %).
MOST_UNITS = 2000
_DENSE = 0.05


@dataclass(frozen=True)
class Resamples:
    """`draws` resamplings of `n_documents` documents, the same ones for every score and stratum."""

    n_documents: int
    draws: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.draws < 1:
            raise InputError(f"draws is {self.draws}; at least 1 is needed, 1,000 is the custom.")

    def generator(self, *purpose: int) -> np.random.Generator:
        """A stream of random numbers of its own for each purpose."""
        return np.random.default_rng([self.seed, *purpose])

    @property
    def n_units(self) -> int:
        """What is resampled: documents, or random pools of them."""
        return min(self.n_documents, MOST_UNITS)

    @cached_property
    def unit_of(self) -> Int[np.ndarray, " documents"]:
        """The unit of each document."""
        units = np.arange(self.n_documents) % self.n_units
        return units if self.n_documents <= MOST_UNITS else self.generator(1).permutation(units)

    @cached_property
    def counts(self) -> Float[np.ndarray, "draws units"]:
        """How often each unit is drawn."""
        even = np.full(self.n_units, 1 / self.n_units)
        drawn = self.generator(2).multinomial(self.n_units, even, size=self.draws)
        return drawn.astype(np.float32)

    @cached_property
    def signs(self) -> Float[np.ndarray, "draws units"]:
        """A fair sign for each unit: the null where documents' mean residuals are symmetric."""
        flips = self.generator(3).integers(0, 2, size=(self.draws, self.n_units), dtype=np.int8)
        return (2 * flips - 1).astype(np.float32)

    def means(
        self, total: Shaped[np.ndarray, " units"], n: Shaped[np.ndarray, " units"]
    ) -> Float[np.ndarray, " some"]:
        """A mean over rows, sum(total) / sum(n), in every resampling that holds any row."""
        drawn = self.counts @ n
        return (self.counts @ total)[drawn > 0] / drawn[drawn > 0]

    def sums(
        self,
        unit: Int[np.ndarray, " n"],
        place: Int[np.ndarray, " n"],
        values: np.ndarray,
        size: int,
    ) -> np.ndarray | sparse.csr_array:
        """`values` added up by (unit, place), units x size: all a resampling needs to know."""
        key = unit * size + place
        full = self.n_units * size
        if len(unit) > _DENSE * full:
            return np.bincount(key, values, minlength=full).reshape(-1, size).astype(np.float32)
        kept, at = np.unique(key, return_inverse=True)
        total = np.bincount(at, values).astype(np.float32)
        return sparse.csr_array((total, (kept // size, kept % size)), shape=(self.n_units, size))


def combine(
    multipliers: Float[np.ndarray, "draws units"], sums: np.ndarray | sparse.csr_array
) -> Float[np.ndarray, "draws size"]:
    """Every resampled data set's sums."""
    if isinstance(sums, np.ndarray):
        return multipliers @ sums
    return np.ascontiguousarray((sums.T @ multipliers.T).T)


def widening(units: float | int, level: float) -> float:
    """How much wider resampled noise must be made for few documents.

    Resampling D units gives a variance too small by (D - 1)/D and normal tails where t tails are due
    (Hesterberg 2015, section 4.1); the factor is t / z * sqrt(D / (D - 1)), 1.04 at 40 units.
    """
    tail = (1 + level) / 2
    return float(t.ppf(tail, units - 1) / norm.ppf(tail) * np.sqrt(units / (units - 1)))
