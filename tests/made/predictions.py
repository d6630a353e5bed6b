"""Predictions whose truth is known, for the tests of calibration."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from moeaudit.calibration import Predictions


def predictions(
    n: int = 2000,
    documents: int = 100,
    seed: int = 0,
    power: float = 1.0,
    dependence: float = 0.0,
    **more: object,
) -> Predictions:
    """P(correct | confidence) = confidence ** power; outcomes of a document share a probit effect."""
    rng = np.random.default_rng(seed)
    document = np.sort(rng.integers(0, documents, n))
    confidence = rng.beta(4, 2, n)
    common = rng.normal(size=documents)[document]
    u = ndtr(np.sqrt(dependence) * common + np.sqrt(1 - dependence) * rng.normal(size=n))
    return Predictions(confidence, u < confidence**power, document=document, **more)
