"""Scores of whole distributions: NLL and Brier with their split by temperature, classwise ECE."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ..predictions.cells import width_bins
from .intervals import mean_limits, norm_limits, reached
from .points.binned import BinnedNorm
from .points.classwise import ClasswiseBins, beyond_first, head_classes
from .points.proper import FOLDS, LEAST_DOCUMENTS
from .resample import combine
from .stratum import INFINITE, Stratum, share

_HEAD = 256  # classes whose bins are resampled
_FIT = 2_000_000  # entries of the table of probabilities a temperature is fitted on

MEANING = {
    "nll_classes": "mean -log probability of the true class, nats",
    "nll_classes_calibration": "NLL that one temperature removes, nats",
    "nll_classes_refinement": "NLL that it leaves, nats",
    "brier_classes": "mean squared distance of the distribution from the truth",
    "brier_classes_calibration": "Brier score that the same temperature removes",
    "brier_classes_refinement": "Brier score that it leaves",
    "ece_classwise": f"mean ECE (equal width) of the classes, of at most {_HEAD} with most mass",
}


def class_rows(part: Stratum) -> list[dict[str, Any]]:
    """The rows of MEANING for a stratum whose predictions hold whole distributions."""
    p, label = part.p.probabilities, part.p.label
    if p is None or label is None:
        return []
    with np.errstate(divide="ignore"):
        log = np.log(p)
    plain = losses(log, label)
    lost = np.isinf(plain["nll"]) & (part.p.weights > 0)
    if lost.any():
        why = INFINITE.format(int(lost.sum()))
        rows = [{"score": s, "reason": why} for s in MEANING if s.startswith("nll")]
        rows.append(_mean_row(part, "brier_classes", plain["brier"]))
        why = "no temperature: the NLL is infinite"
        names = [s for s in MEANING if s.startswith("brier_classes_")]
        rows += [{"score": s, "reason": why} for s in names]
    else:
        rows = _splits(part, log, label, plain)
    return [*rows, _classwise(part, p, label)]


def losses(
    log: Float[np.ndarray, "n classes"], label: Int[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """NLL and Brier score of every row of log-probabilities."""
    own = log[np.arange(len(label)), label]
    probability = np.exp(own)
    squares = np.exp(2 * log).sum(axis=1)
    return {"nll": -own, "brier": squares - 2 * probability + 1}


def fit_temperature(
    log: Float[np.ndarray, "n classes"], label: Int[np.ndarray, " n"], w: Float[np.ndarray, " n"]
) -> float:
    """The temperature of least weighted NLL, between 1/20 and 20."""

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(log * np.exp(-log_temperature), axis=1)
        return float(-(w @ scaled[np.arange(len(label)), label]))

    limit = np.log(20.0)
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]


def _splits(
    part: Stratum, log: np.ndarray, label: np.ndarray, plain: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Loss, and its parts by a temperature fitted on the other documents (Berta et al. 2025)."""
    few = part.p.effective_documents < LEAST_DOCUMENTS
    refined = None if few else _cross_fitted(part, log, label)
    rows: list[dict[str, Any]] = []
    for loss, values in plain.items():
        rows.append(_mean_row(part, f"{loss}_classes", values))
        for name in ("calibration", "refinement"):
            score = f"{loss}_classes_{name}"
            if refined is None:
                why = f"cross-fitting needs at least {LEAST_DOCUMENTS} documents"
                rows.append({"score": score, "reason": why})
                continue
            left = refined[loss]
            rows.append(_mean_row(part, score, values - left if name == "calibration" else left))
    return rows


def _cross_fitted(
    part: Stratum, log: np.ndarray, label: np.ndarray
) -> dict[str, Float[np.ndarray, " n"]]:
    """Every row's losses at the temperature of the other folds, which is not refitted in resamples.

    A small change of a temperature at its optimum changes the loss only in second order.
    """
    fold, w = part.unit % FOLDS, part.p.weights
    rng = part.resamples.generator(6, part.stream)
    out = {"nll": np.empty(len(label)), "brier": np.empty(len(label))}
    for f in range(FOLDS):
        train, held = np.flatnonzero(fold != f), fold == f
        if not held.any():
            continue
        most = max(1000, _FIT // log.shape[1])
        if len(train) > most:
            train = np.sort(rng.choice(train, most, replace=False))
        temperature = fit_temperature(log[train], label[train], w[train]) if len(train) else 1.0
        for name, values in losses(
            log_softmax(log[held] / temperature, axis=1), label[held]
        ).items():
            out[name][held] = values
    return out


def _mean_row(part: Stratum, score: str, values: Float[np.ndarray, " n"]) -> dict[str, Any]:
    w, unit, size = part.p.weights, part.unit, part.resamples.n_units
    row: dict[str, Any] = {"score": score, "value": float(np.average(values, weights=w))}
    if (why := part.why_no_resampling()) is not None:
        return row | {"reason": why}
    counts = part.resamples.counts.astype(np.float64)
    top, below = (counts @ np.bincount(unit, x, size) for x in (w * values, w))
    drawn = top[below > 0] / below[below > 0]
    row["low"], row["high"] = mean_limits(row["value"], drawn, part.level, part.wider)
    return row


def _classwise(part: Stratum, p: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    sums = ClasswiseBins(p.shape[1], part.bins)
    sums.add(p, label, part.p.weights)
    head = head_classes(sums.table(), _HEAD)
    row: dict[str, Any] = {"score": "ece_classwise", "value": sums.score(_HEAD)}
    if (why := part.why_no_resampling()) is not None:
        return row | {"reason": why}
    residual = _unit_residuals(part, p, label, head)
    weight = np.bincount(part.unit, part.p.weights, part.resamples.n_units)
    norm = BinnedNorm(np.arange(residual.shape[1]), "l1")
    observed = residual.sum(axis=0) / weight.sum()
    counts = part.resamples.counts
    total = (counts @ weight)[:, None]
    drawn = combine(counts, residual.astype(np.float32)) / np.where(total > 0, total, np.inf)
    noise = (drawn - observed) * part.wider
    low, high = norm_limits(norm, observed, noise, part.level)
    flips = combine(part.resamples.signs, residual.astype(np.float32)) / weight.sum()
    row["p_documents"] = share(reached(norm, flips.astype(np.float64), row["value"] * len(head)))
    return row | {"low": low / len(head), "high": high / len(head)}


def _unit_residuals(
    part: Stratum, p: np.ndarray, label: np.ndarray, head: Int[np.ndarray, " head"]
) -> Float[np.ndarray, "units head_bins"]:
    """Sums of w (p_c - [label = c]) by unit, class of the head and bin.

    As in ClasswiseBins only what lies beyond the first bin is binned; the first is the rest.
    """
    w, unit, bins, units = part.p.weights, part.unit, part.bins, part.resamples.n_units
    size = len(head) * bins
    place_of = np.full(p.shape[1], -1)
    place_of[head] = np.arange(len(head))
    own = place_of[label]
    kept = own >= 0
    some = p[:, head]
    row, column, place = beyond_first(some, bins)
    value = w[row] * some[row, column]
    out = np.bincount(unit[row] * size + place, value, units * size)
    at = own[kept] * bins + width_bins(p[np.arange(len(label)), label], bins)[kept]
    out -= np.bincount(unit[kept] * size + at, w[kept], units * size)
    members = sparse.csr_array((w, (unit, np.arange(len(w)))), shape=(units, len(w)))
    beyond = np.bincount(unit[row] * len(head) + column, value, units * len(head))
    out = out.reshape(units, len(head), bins)
    out[:, :, 0] += members @ some - beyond.reshape(units, len(head))
    return out.reshape(units, size)
