"""Do two runs put the experts of a layer in the same order? Rank agreement of their expected harm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from moeaudit.seeds import generator

from ..least import DOCUMENTS_PER_EXPERT
from ..ranking.correlation import paired_spearman
from .columns import Sums

N_SPLITS = 200
LEAST_EXPERTS = 6


@dataclass(frozen=True)
class Agreement:
    """`rho`: Spearman's correlation over experts of the two runs' means, with limits.

    `apart`: the same, each run's means from the other half of the documents (so that what documents have in common
    cannot make it), mean over halvings; `halves`: what one run's own halves agree to, the geometric mean of both runs:
    what `apart` would be if the runs ranked alike. `experts`: how many there were. NaN with a `reason` where unknown.
    """

    rho: float
    low: float
    high: float
    apart: float
    halves: float
    experts: int
    reason: str | None = None


def agreement(
    a: Sums, b: Sums, *, level: float = 0.95, seed: int = 0, n_splits: int = N_SPLITS
) -> Agreement:
    """Rank agreement of the cells of one layer.

    Only experts with rows in at least 10 documents on both sides. The limits take documents and experts as samples:
    Fisher's z, its variance the jackknife's over documents and that of n experts, (1 + rho^2 / 2) / (n - 3) (Bonett &
    Wright 2000), added, with Student's t of n - 3 degrees of freedom; never shorter than either alone.
    """
    seen = [(side.count > 0).sum(axis=0) for side in (a, b)]
    keep = np.minimum(*seen) >= DOCUMENTS_PER_EXPERT
    n = int(keep.sum())
    if n < LEAST_EXPERTS:
        return _none(
            n,
            f"{n} experts are active in {DOCUMENTS_PER_EXPERT} documents or more on both sides, and {LEAST_EXPERTS} "
            "are needed",
        )
    a, b = (Sums(side.total[:, keep], side.count[:, keep]) for side in (a, b))
    rho = float(paired_spearman(a.mean[None], b.mean[None])[0])
    if not np.isfinite(rho):
        return _none(n, "one side has the same mean for every expert")
    halves = _halves(a, b, seed, n_splits)
    if rho > 1 - 1e-12:
        same = bool((a.total == b.total).all() and (a.count == b.count).all())
        why = (
            "both sides hold the same sums" if same else "the orders are the same, without a spread"
        )
        return Agreement(rho, float("nan"), float("nan"), *halves, n, why)
    left = paired_spearman(_left(a), _left(b))
    z = np.arctanh(np.clip(left, -1 + 1e-12, 1 - 1e-12))
    d = len(z)
    documents = (d - 1) / d * ((z - z.mean()) ** 2).sum()
    reach = scipy.stats.t.isf((1 - level) / 2, n - 3) * np.sqrt(
        documents + (1 + rho**2 / 2) / (n - 3)
    )
    middle = np.arctanh(rho)
    low, high = (float(np.tanh(middle + sign * reach)) for sign in (-1, 1))
    return Agreement(rho, low, high, *halves, n)


def _none(n: int, reason: str) -> Agreement:
    nan = float("nan")
    return Agreement(nan, nan, nan, nan, nan, n, reason)


def _left(side: Sums) -> Float[np.ndarray, "documents experts"]:
    """Means without each document that the side has; the whole's for the others."""
    return np.where(side.count.sum(axis=1, keepdims=True) > 0, side.left, side.mean)


def _halves(a: Sums, b: Sums, seed: int, n_splits: int) -> tuple[float, float]:
    """Agreement across halves of the documents: of a with b, and of each with itself."""
    d = len(a.total)
    even = np.tile(np.arange(d) % 2, (n_splits, 1))
    one = generator(seed, "halves of two runs").permuted(even, axis=1).astype(float)

    def means(side: Sums, weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (weights @ side.total) / (weights @ side.count)

    a1, a2, b1, b2 = (means(side, w) for side in (a, b) for w in (one, 1 - one))
    whole = np.isfinite(a1 + a2 + b1 + b2).all(axis=1)
    if not whole.any():
        return float("nan"), float("nan")
    a1, a2, b1, b2 = (x[whole] for x in (a1, a2, b1, b2))
    apart = np.nanmean([paired_spearman(a1, b2), paired_spearman(a2, b1)])
    own = [float(np.nanmean(paired_spearman(*pair))) for pair in ((a1, a2), (b1, b2))]
    halves = np.sqrt(own[0] * own[1]) if min(own) > 0 else float("nan")
    return float(apart), float(halves)
