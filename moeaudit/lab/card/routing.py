"""How much routing says about the domain: mutual information with a document-label null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

Counts = Float[np.ndarray, "documents experts"]


def mutual_information(
    counts: Counts, labels: Shaped[np.ndarray, " documents"] | Sequence[str]
) -> float:
    """Plug-in I(label; expert) in nats of slots counted by document. At most ln(labels)."""
    names, place = np.unique(np.asarray(labels), return_inverse=True)
    joint = np.zeros((len(names), counts.shape[1]))
    np.add.at(joint, place, counts)
    joint /= joint.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / product[there])).sum())


@dataclass(frozen=True)
class Dependence:
    """Mutual information in nats, and what it is when labels are dealt out to documents at random.

    Tokens of a document share a subject, so a null that shuffled tokens would be far too narrow:
    whole documents trade their labels.
    """

    value: float
    null_mean: float
    null_95: float
    p: float


def dependence(
    counts: Counts, labels: Sequence[str], permutations: int = 199, seed: int = 0
) -> Dependence:
    """Permutation test of I(label; expert); p = (1 + exceedances) / (1 + permutations)."""
    random = np.random.default_rng(seed)
    value = mutual_information(counts, labels)
    array = np.asarray(labels)
    null = np.array(
        [mutual_information(counts, random.permutation(array)) for _ in range(permutations)]
    )
    p = (1 + int((null >= value).sum())) / (1 + permutations)
    return Dependence(value, float(null.mean()), float(np.quantile(null, 0.95)), p)


def utilisation(counts: Counts) -> Float[np.ndarray, " experts"]:
    """Share of slots by expert, times the number of experts: 1 is an even load."""
    share = counts.sum(0) / counts.sum()
    return share * len(share)
