"""Squared calibration error without the bias of noise: by row, and by document."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from ...predictions.predictions import Predictions
from .binned import Binning, bin_of


def debiased_squared(p: Predictions, bins: int = 15, binning: Binning = "mass") -> float:
    """Kumar, Liang & Ma (2019): sum_b s_b [(acc_b - conf_b)^2 - acc_b (1 - acc_b) / (n_b - 1)].

    May be negative. With weights n_b is Kish's effective number of the bin. Bins with fewer than
    2 predictions count as 0, as in the paper's code. The correction assumes independent rows; it is too
    small where rows of a document err together (`document_squared`).
    """
    place, w, c, y = bin_of(p, bins, binning), p.weights, p.confidence, p.correct
    mass, squares = np.bincount(place, w), np.bincount(place, w**2)
    kept = (squares > 0) & (mass**2 > 1.5 * squares)
    s = np.where(kept, mass, 1.0)
    number = np.where(kept, s**2 / np.where(kept, squares, 1.0), 2.0)
    accuracy, confidence = np.bincount(place, w * y) / s, np.bincount(place, w * c) / s
    terms = (accuracy - confidence) ** 2 - accuracy * (1 - accuracy) / (number - 1)
    return float((mass * terms)[kept].sum() / mass.sum())


def document_squared(p: Predictions, bins: int = 15, binning: Binning = "mass") -> float:
    """Products of residuals of different documents only, so that no document meets itself.

    With r_d and w_d the sums of w (confidence - correct) and w of document d in bin b:
    sum_b s_b [(sum r_d)^2 - sum r_d^2] / [(sum w_d)^2 - sum w_d^2]. Its mean is 0 for calibrated
    predictions whatever the dependence within documents, and near Kumar's where rows are documents.
    Bins of a single document count as 0. May be negative.
    """
    place = bin_of(p, bins, binning)
    return _pairs(place, p.documents, p.weights, p.weights * (p.confidence - p.correct))


def _pairs(
    place: Int[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    residual: Float[np.ndarray, " n"],
) -> float:
    bins = int(place.max()) + 1
    key, at = np.unique(document * bins + place, return_inverse=True)
    r, w, b = np.bincount(at, residual), np.bincount(at, weight), key % bins
    total, alone = np.bincount(b, w), np.bincount(b, w**2)
    product = np.bincount(b, r) ** 2 - np.bincount(b, r**2)
    pairs = total**2 - alone
    kept = pairs > 1e-9 * total**2
    return float((total[kept] * product[kept] / pairs[kept]).sum() / total.sum())


def clipped_root(squared: float) -> float:
    """sqrt(max(0, x)): on the scale of an ECE (Roelofs et al. 2022)."""
    return float(np.sqrt(max(0.0, squared)))
