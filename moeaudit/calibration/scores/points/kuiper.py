"""Cumulative differences: calibration without bins or bandwidth, with a p-value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm

from ...predictions.predictions import Predictions

Kind = Literal["range", "largest"]


@dataclass(frozen=True)
class CumulativeNorm:
    """Range (Kuiper, ECCE-R) or largest size (Kolmogorov-Smirnov, ECCE-MAD) of the running sum.

    C_k = sum over the k lowest confidences of w (confidence - correct) / sum w, with C_0 = 0
    (Arrieta-Ibarra, Gujral, Tannen, Tygert & Xu 2022, JMLR 23(351)).
    """

    kind: Kind = "range"

    def features(
        self, mass: Float[np.ndarray, "*draws cells"], residual: Float[np.ndarray, "*draws cells"]
    ) -> Float[np.ndarray, "*draws cells"]:
        del mass  # shares of residual are enough
        return np.cumsum(residual, axis=-1)

    def value(self, features: Float[np.ndarray, "*draws cells"]) -> Float[np.ndarray, "*draws"]:
        top = np.maximum(features.max(axis=-1), 0)
        bottom = np.minimum(features.min(axis=-1), 0)
        out = top - bottom if self.kind == "range" else np.maximum(top, -bottom)
        return np.asarray(out, np.float64)

    def reaches(
        self, features: Float[np.ndarray, "draws cells"], score: float
    ) -> Bool[np.ndarray, " draws"]:
        return self.value(features) >= score


def kuiper(p: Predictions, kind: Kind = "range") -> float:
    """ECCE of all predictions. Equal confidences enter together, so row order does not matter."""
    _, place = np.unique(p.confidence, return_inverse=True)
    w = p.weights / p.weights.sum()
    steps = np.bincount(place, w * (p.confidence - p.correct))
    score = CumulativeNorm(kind)
    return float(score.value(score.features(steps, steps)))


def kuiper_sigma(p: Predictions) -> float:
    """The standard deviation sqrt(sum w^2 c (1 - c)) / sum w of C_n for calibrated predictions."""
    w, c = p.weights, p.confidence
    return float(np.sqrt((w**2 * c * (1 - c)).sum()) / w.sum())


def range_p(x: float) -> float:
    """P(range of Brownian motion on [0, 1] >= x), the limit law of ECCE-R / sigma.

    Feller (1951), in the form 8 sum_k (-1)^(k-1) k P(Z > k x), and below 1 in the equivalent form
    1 - sum_k (8 / x^2 + 2 / (pi^2 h^2)) exp(-2 pi^2 h^2 / x^2) with h = k + 1/2, which converges there.
    """
    if x <= 0:
        return 1.0
    if x < 1:
        square = ((np.arange(20) + 0.5) * np.pi) ** 2
        return float(1 - ((8 / x**2 + 2 / square) * np.exp(-2 * square / x**2)).sum())
    k = np.arange(1, 60)
    return float(np.clip(8 * (-1.0) ** (k - 1) * k @ norm.sf(k * x), 0, 1))
