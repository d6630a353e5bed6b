"""The signed gap, and the other means: what an unsigned score cannot say."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from ...predictions.predictions import Predictions

MEANS = ("gap", "confidence", "accuracy", "brier", "nll")


def signed_gap(p: Predictions) -> float:
    """Mean confidence minus accuracy: positive is over-confident."""
    return float(np.average(p.confidence - p.correct, weights=p.weights))


def brier_rows(p: Predictions) -> Float[np.ndarray, " n"]:
    """(confidence - correct)^2 of each prediction."""
    return (p.confidence - p.correct) ** 2


def nll_rows(p: Predictions) -> Float[np.ndarray, " n"]:
    """Nats: -log of the probability given to what happened; infinite where that was 0."""
    with np.errstate(divide="ignore"):
        return -np.log(np.where(p.correct, p.confidence, 1 - p.confidence))


def mean_rows(p: Predictions) -> Float[np.ndarray, "means n"]:
    """The rows whose weighted means are MEANS."""
    residual = p.confidence - p.correct
    return np.stack(
        [residual, p.confidence, p.correct.astype(np.float64), brier_rows(p), nll_rows(p)]
    )


def means(p: Predictions) -> Float[np.ndarray, " means"]:
    """Weighted means of all predictions, in the order of MEANS."""
    rows, w = mean_rows(p), p.weights
    kept = w > 0  # a row of weight 0 does not count, even if its loss is infinite
    return (rows[:, kept] * w[kept]).sum(axis=1) / w.sum()


def unit_sums(
    p: Predictions, unit: Int[np.ndarray, " n"], n_units: int
) -> Float[np.ndarray, "units columns"]:
    """Sums of weight and of the weighted rows by unit: the first column is the weight."""
    rows, w = mean_rows(p), p.weights
    columns = [np.bincount(unit, w, minlength=n_units)]
    for row in rows:
        safe = np.where(w > 0, row, 0.0)
        if not np.isfinite(safe).all():  # an infinite mean has no limits to resample
            safe = np.zeros_like(safe)
        columns.append(np.bincount(unit, w * safe, minlength=n_units))
    return np.stack(columns, axis=1)


def expected_losses(p: Predictions) -> dict[str, tuple[float, Float[np.ndarray, " n"]]]:
    """For Brier and NLL, what calibrated confidences would expect, and each row's slope in y.

    Both losses are linear in the outcome, loss(y) = E loss + slope (y - c): the null of Spiegelhalter's (1986)
    test. A confidence of exactly 0 or 1 leaves nothing to chance; its slope counts as 0.
    """
    w, c = p.weights / p.weights.sum(), p.confidence
    open_ = (c > 0) & (c < 1)
    inside = np.where(open_, c, 0.5)
    slope = np.where(open_, np.log1p(-inside) - np.log(inside), 0.0)
    entropy = -xlogy(c, c) - xlogy(1 - c, 1 - c)
    return {
        "brier": (float(w @ (c * (1 - c))), 1 - 2 * c),
        "nll": (float(w @ entropy), slope),
    }
