"""Rank correlation with a quantity that is only known through noise.

Noise in the harm of experts pulls any correlation with it towards zero, and a bootstrap adds the
same noise once more, so that its replicates lie lower still: the plain percentile interval of a
correlation of 0.6 with a harm of reliability 0.75 held the truth 26 % of the time (64 experts,
100 documents). Both pulls are known from the reliability R of the harm, and are taken off here:

    reliability of the harm           R            correlations shrink by sqrt(R)
    reliability of a replicate's      R / (2 - R)  (noise variance doubled)

Spearman (1904) for the first; the second is the same with half as many documents. With it 95 %
intervals held the true correlation 94 to 98 % of the time for 16 to 64 experts and R of 0.5 to 0.95
(benchmarks/attenuation.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Attenuation:
    """How far noise of a given reliability pulls correlations to zero.

    `reliability` may be NaN or not positive (halves of the documents do not agree): then nothing
    can be said about the correlation with the true harm, and only the observed one has limits.
    `low` and `high` are the limits of the reliability over documents; 0 and 1 where nothing is known.
    """

    reliability: float
    low: float = 0.0
    high: float = 1.0

    @property
    def known(self) -> bool:
        return bool(self.reliability > 0)

    @property
    def ceiling(self) -> float:
        """sqrt(R): the correlation that a perfect metric would be seen to reach; 0 if R <= 0.

        An estimate, so a metric may be seen above it.
        """
        return math.sqrt(self.reliability) if self.known else 0.0

    @property
    def ceiling_limits(self) -> tuple[float, float]:
        """The limits of the ceiling, from those of the reliability."""
        low, high = (math.sqrt(min(1.0, max(0.0, x))) for x in (self.low, self.high))
        return low, high

    @property
    def of_halves(self) -> Attenuation:
        """The same for the harm in half of the documents."""
        return Attenuation(*(of_half(x) for x in (self.reliability, self.low, self.high)))

    @property
    def from_half(self) -> float:
        """sqrt(R / R of a half): what a correlation seen in half of the documents grows by in all of
        them; sqrt(2), what it is for small R, if R is not known."""
        return math.sqrt(2 - self.reliability) if self.known else math.sqrt(2)

    @property
    def of_replicates(self) -> float:
        """sqrt(R / (2 - R)): what a correlation of 1 shrinks to in a bootstrap replicate."""
        return math.sqrt(self.reliability / (2 - self.reliability)) if self.known else 0.0

    def true(self, observed: float) -> float:
        """The correlation with the harm itself, held within [-1, 1]; NaN if R <= 0."""
        return min(1.0, max(-1.0, observed / self.ceiling)) if self.known else float("nan")

    def true_limits(
        self, draws: Float[np.ndarray, " n_boot"], level: float | int
    ) -> tuple[float, float]:
        """Interval of the correlation with the harm itself; all of [-1, 1] if R <= 0."""
        if not self.known:
            return -1.0, 1.0
        return _clipped(draws / self.of_replicates, level)

    def observed_limits(
        self, draws: Float[np.ndarray, " n_boot"], level: float | int
    ) -> tuple[float, float]:
        """The same interval on the scale of the observed correlation: times sqrt(R)."""
        return _clipped(draws * self.from_half, level)

    def z_documents(self, observed: float, draws: Float[np.ndarray, " n_boot"]) -> float:
        """The observed correlation in standard errors over documents, the noise of the draws taken
        off; infinite if all draws are alike."""
        spread = self.observed_se(draws)
        return abs(observed) / spread if spread > 0 else math.inf

    def observed_se(self, draws: Float[np.ndarray, " n_boot"]) -> float:
        """Standard error of the observed correlation over documents, the noise of the draws taken off."""
        return float(draws.std(ddof=1)) * self.from_half

    def true_se(self, draws: Float[np.ndarray, " n_boot"]) -> float:
        """Standard error of the correlation with the harm itself; infinite if R <= 0."""
        return float(draws.std(ddof=1)) / self.of_replicates if self.known else float("inf")


def of_half(reliability: float) -> float:
    """Reliability of half the documents from that of all (Spearman-Brown, downwards)."""
    return reliability / (2 - reliability)


def _clipped(draws: np.ndarray, level: float | int) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(max(low, -1.0)), float(min(high, 1.0))
