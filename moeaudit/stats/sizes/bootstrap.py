"""Resampling whole documents: weights, percentile and BCa limits."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

from moeaudit.errors import InputError
from moeaudit.seeds import generator


def document_weights(
    n_documents: int, n_boot: int, seed: int
) -> Float[np.ndarray, "n_boot documents"]:
    """How often each document is drawn when as many are drawn with replacement, `n_boot` times.

    The same weights serve every cell of a table, which keeps the dependence between cells.
    """
    if n_documents < 2:
        raise InputError(
            f"A bootstrap over documents needs at least 2 documents; there is {n_documents}. "
            "Tokens of one document are not independent, so no interval can be given."
        )
    rng = generator(seed, "bootstrap")
    even = np.full(n_documents, 1 / n_documents)
    return rng.multinomial(n_documents, even, size=n_boot).astype(np.float64)


def percentile_limits(
    replicates: Float[np.ndarray, " n_boot"], level: float = 0.95
) -> tuple[float, float]:
    """The plain percentile interval (Efron & Tibshirani 1993, chapter 13)."""
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def bca_limits(
    estimate: float,
    replicates: Float[np.ndarray, " n_boot"],
    jackknife: Float[np.ndarray, " documents"],
    level: float = 0.95,
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval (Efron 1987; Efron & Tibshirani 1993, 14.3).

    Parameters
    ----------
    estimate
        The statistic on the data.
    replicates
        The statistic on resampled documents.
    jackknife
        The statistic with each document left out, for the acceleration.

    Returns NaN limits where the estimate lies outside all replicates, so that no bias correction
    exists.
    """
    below = (np.mean(replicates < estimate) + np.mean(replicates <= estimate)) / 2
    if below in (0.0, 1.0):
        return float("nan"), float("nan")
    shift = scipy.special.ndtri(below)
    centred = jackknife.mean() - jackknife
    spread = (centred**2).sum() ** 1.5
    acceleration = (centred**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = scipy.special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    place = scipy.special.ndtr(shift + (shift + z) / (1 - acceleration * (shift + z)))
    low, high = np.quantile(replicates, place)
    return float(low), float(high)


def leave_one_out(present: np.ndarray) -> Float[np.ndarray, "sets documents"]:
    """Weights that leave out each document that holds tokens, one row each."""
    rows = np.flatnonzero(present)
    weights = np.ones((len(rows), len(present)))
    weights[np.arange(len(rows)), rows] = 0.0
    return weights
