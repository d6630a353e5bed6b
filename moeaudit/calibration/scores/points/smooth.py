"""Smooth calibration error (Blasiok & Nakkiran 2023): no bins, and its bandwidth finds itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.fft import dct

from ...predictions.predictions import Predictions

_GRID = 1 << 14
_STEPS = 40


@dataclass(frozen=True)
class SmoothNorm:
    """smECE as a function of cosine coefficients of the residuals.

    The Gaussian kernel reflected at 0 and 1 is the heat kernel of the interval, which multiplies the k-th
    cosine coefficient by exp(-(pi k sigma)^2 / 2). So smECE_sigma, the integral of the size of
    the smoothed residuals, is one cosine transform away, and smECE is the sigma with
    smECE_sigma = sigma. As smECE_sigma falls in sigma, smECE >= s exactly if smECE_s >= s.
    """

    centre: Float[np.ndarray, " cells"]
    terms: int = 512

    @cached_property
    def waves(self) -> Float[np.ndarray, "cells terms"]:
        """cos(pi k c) for every cell and k."""
        angle = np.pi * np.outer(self.centre, np.arange(self.terms))
        return np.cos(angle).astype(np.float32)

    def features(
        self, mass: Float[np.ndarray, "*draws cells"], residual: Float[np.ndarray, "*draws cells"]
    ) -> Float[np.ndarray, "*draws terms"]:
        del mass  # shares of residual are enough
        return (residual.astype(np.float32) @ self.waves).astype(np.float64)

    def value(self, features: Float[np.ndarray, "*draws terms"]) -> Float[np.ndarray, "*draws"]:
        return np.asarray(fixed_point(features))

    def reaches(
        self, features: Float[np.ndarray, "draws terms"], score: float
    ) -> Bool[np.ndarray, " draws"]:
        return size_at(features, np.asarray(score)) >= score


def size_at(
    coefficients: Float[np.ndarray, "*draws terms"], sigma: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*draws"]:
    """smECE_sigma, the integral over [0, 1] of |kernel-smoothed residuals|; one sigma or many."""
    return np.asarray(np.abs(_smoothed(coefficients, sigma)).mean(axis=-1))


def _smoothed(coefficients: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """a_0 + 2 sum_k a_k exp(-(pi k sigma)^2 / 2) cos(pi k t) at the midpoints t of a grid."""
    terms = coefficients.shape[-1]
    fade = np.exp(-0.5 * (np.pi * np.arange(terms) * np.asarray(sigma)[..., None]) ** 2)
    return np.asarray(dct(coefficients * fade, type=3, n=max(512, terms), axis=-1))


def fixed_point(
    coefficients: Float[np.ndarray, "*draws terms"], steps: int = 18
) -> Float[np.ndarray, "*draws"]:
    """The sigma with smECE_sigma = sigma, by bisection to 2^-steps."""
    low = np.zeros(coefficients.shape[:-1])
    high = np.ones_like(low)
    for _ in range(steps):
        middle = np.asarray((low + high) / 2)
        above = size_at(coefficients, middle) >= middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray((low + high) / 2)


def coefficients_of(p: Predictions) -> Float[np.ndarray, " terms"]:
    """Cosine coefficients of all predictions' residuals, each shared by two points of a fine grid."""
    w = p.weights / p.weights.sum()
    residual = w * (p.confidence - p.correct)
    at = np.clip(p.confidence * _GRID - 0.5, 0, _GRID - 1)
    left = np.minimum(at.astype(np.int64), _GRID - 2)
    share = at - left
    grid = np.bincount(left, residual * (1 - share), minlength=_GRID)
    grid += np.bincount(left + 1, residual * share, minlength=_GRID)
    return np.asarray(dct(grid, type=2)) / 2


def smooth_ece(p: Predictions, sigma: float | None = None) -> float:
    """smECE of all predictions; with `sigma`, smECE at that bandwidth."""
    coefficients = coefficients_of(p)
    if sigma is not None:
        return float(size_at(coefficients, np.asarray(sigma)))
    return float(fixed_point(coefficients, _STEPS))


def smoothed_residual(
    p: Predictions, sigma: float, points: int = 512
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Where, and the residual density (confidence - correct) x (density of confidence) there."""
    curve = _smoothed(coefficients_of(p), np.asarray(sigma))
    at = (np.arange(points) + 0.5) / points
    return at, np.interp(at, (np.arange(_GRID) + 0.5) / _GRID, curve)
