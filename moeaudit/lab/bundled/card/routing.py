"""How much routing says about the domain, and how evenly experts are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from moeaudit.stats.domains.information import permuted_information

Counts = Float[np.ndarray, "documents experts"]


@dataclass(frozen=True)
class Dependence:
    """Mutual information in nats, and what it is when labels are dealt out to documents at random."""

    value: float
    null_mean: float
    null_95: float
    p: float


def dependence(
    counts: Counts, labels: Sequence[str], permutations: int = 199, seed: int = 0
) -> Dependence:
    """Permutation test of I(label; expert) of one layer (`stats.domains.information`)."""
    found = permuted_information(counts, labels, permutations=permutations, seed=seed)
    numbers = (found.value, found.null_mean, found.null_95, found.p)
    return Dependence(*(float(x[0]) for x in numbers))


def utilisation(counts: Counts) -> Float[np.ndarray, " experts"]:
    """Share of slots by expert, times the number of experts: 1 is an even load."""
    share = counts.sum(0) / counts.sum()
    return share * len(share)
