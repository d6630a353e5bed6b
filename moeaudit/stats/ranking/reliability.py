"""How well documents determine the harm of a layer's experts, and how well that is known itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from moeaudit.seeds import generator

from .attenuation import Attenuation
from .correlation import paired_spearman, spearman_brown
from .harm import Harm

N_SPLITS = 200
MOST_GROUPS = 40  # of documents, left out in turn


def reliability(harm: Harm, seed: int, n_splits: int = N_SPLITS) -> float:
    """Split-half reliability of the experts' harm: Spearman of halves of documents, stepped up.

    Mean over `n_splits` random halvings, then Spearman-Brown 2r / (1 + r). NaN if not estimable.
    """
    if len(harm.expert) < 2:
        return float("nan")
    r = _agreement(harm, _halves(harm, seed, n_splits))
    return spearman_brown(r) if r > -1 else float("nan")


def attenuation(
    harm: Harm, seed: int, level: float | int = 0.95, n_splits: int = N_SPLITS
) -> Attenuation:
    """The reliability with its limits over documents.

    Documents are left out in up to 40 random groups, the same halvings of the rest made again, and the
    delete-a-group jackknife (Kott 2001) gives the standard error of Fisher's z of the halves' agreement.
    A bootstrap would not do: a document drawn twice may fall into both halves, which then agree. Where
    no limits can be given they are those of ignorance, 0 and 1.
    """
    whole = reliability(harm, seed, n_splits)
    n = len(harm.tokens)
    if np.isnan(whole) or n < 3:
        return Attenuation(whole)
    halves = _halves(harm, seed, n_splits)
    groups = min(n, MOST_GROUPS)
    group = generator(seed, "left out", harm.layer).permutation(np.arange(n) % groups)
    left = np.array([_agreement(harm, halves, group != g) for g in range(groups)])
    if not np.isfinite(left).all():
        return Attenuation(whole)
    z = _fisher(left)
    se = np.sqrt((groups - 1) / groups * ((z - z.mean()) ** 2).sum())
    reach = float(scipy.stats.t.isf((1 - level) / 2, groups - 1)) * se
    middle = _fisher(_agreement(harm, halves))
    # Below 0 all is alike: a perfect metric would not be seen at all.
    low, high = (spearman_brown(max(0.0, float(np.tanh(middle + s * reach)))) for s in (-1, 1))
    return Attenuation(whole, low, high)


def _halves(harm: Harm, seed: int, n_splits: int) -> Float[np.ndarray, "splits documents"]:
    rng = generator(seed, "halves", harm.layer)
    even = np.tile(np.arange(len(harm.tokens)) % 2, (n_splits, 1))
    return rng.permuted(even, axis=1).astype(np.float64)


def _agreement(harm: Harm, halves: np.ndarray, kept: np.ndarray | None = None) -> float:
    """Mean Spearman of the two halves, over the halvings in which every expert occurs in both."""
    there = np.ones(halves.shape[1]) if kept is None else kept.astype(np.float64)
    a, b = harm.mean(halves * there), harm.mean((1 - halves) * there)
    both = ~(np.isnan(a) | np.isnan(b)).any(axis=1)
    if not both.any():
        return float("nan")
    r = paired_spearman(a[both], b[both])
    r = r[np.isfinite(r)]
    return float(r.mean()) if len(r) else float("nan")


def _fisher(r: Any) -> Any:
    """Fisher's z, finite where the halves agree to the last bit."""
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
