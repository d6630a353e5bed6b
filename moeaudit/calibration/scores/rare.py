r"""Where errors are rare: when that is, and a null that draws them with their documents' dependence.

Turning whole documents' residuals in sign asks for sums that are as likely to be S as -S. Residuals of
confident predictions are -0.001 nearly always and 0.999 rarely: a document without an error has one
sign only, and a calibrated model looks under-confident. So where errors (or, at low confidence, right
answers) are few, outcomes are drawn from the confidences instead. Outcomes of one document are tied by a
probit effect, y = [sqrt(rho) z_d + sqrt(1 - rho) e < a], a = probit(confidence), so that each
confidence keeps its meaning; rho comes from products of residuals within documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.special import ndtri

from ..predictions.cells import mass_bins
from ..predictions.predictions import Predictions

# Sign flips are asked only of as many errors and right answers, expected and seen, and in so many
# documents (or in all): with fewer, a mean and its spread go together (docs/methods/calibration.md).
LEAST_EVENTS, LEAST_DOCUMENTS = 30, 10
# Errors from which a correlation within documents can be told at all; below, CAUTIOUS is taken.
LEAST_FOR_CORRELATION, CAUTIOUS = 10, 0.5
_TERMS, _GRID, _CENTRING = 20, np.linspace(0, 0.9, 91), 10
_MOST_DRAWN, _LEAST_DRAWS, _BLOCK = 200_000_000, 200, 2_000_000


@dataclass(frozen=True)
class Events:
    """Numbers of errors and of right answers, the fewer of the two kinds by each count.

    With weights these are Kish's numbers, (sum w)^2 / sum w^2 over the events.
    """

    expected: float
    seen: float
    documents: int
    of_documents: int

    @property
    def fewest(self) -> float:
        """Expected or seen, whichever is less."""
        return min(self.expected, self.seen)

    @property
    def rare(self) -> bool:
        """Whether there are too few for sign flips and for limits by resampling."""
        least = min(LEAST_DOCUMENTS, self.of_documents)
        return self.fewest < LEAST_EVENTS or self.documents < least

    def __str__(self) -> str:
        return (
            f"few errors or right answers ({self.expected:.3g} expected, {self.seen:.3g} seen, in "
            f"{self.documents} documents; {LEAST_EVENTS} in {LEAST_DOCUMENTS} are needed to turn signs or "
            "to resample)"
        )


def events(
    confidence: Float[np.ndarray, " n"],
    correct: np.ndarray,
    weight: Float[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
) -> Events:
    """Count the rarer kind of outcome."""
    expected = min(_kish(weight, 1 - confidence), _kish(weight, confidence))
    wrong, right = ~correct, correct
    seen = min(_kish(weight, wrong), _kish(weight, right))
    counts = weight > 0
    documents = min(len(np.unique(document[kind & counts])) for kind in (wrong, right))
    return Events(expected, seen, documents, len(np.unique(document[counts])))


def events_of(p: Predictions) -> Events:
    """`events` of predictions."""
    return events(p.confidence, p.correct, p.weights, p.documents)


def _kish(weight: np.ndarray, share: np.ndarray) -> float:
    below = float(weight**2 @ share)
    return float((weight @ share) ** 2 / below) if below > 0 else 0.0


def correlation(p: Predictions) -> float:
    """The latent correlation of outcomes within documents, on the cautious side.

    The larger of two estimates, of all predictions and of those above 0.9 or below 0.1, each one
    standard error up; CAUTIOUS where neither has errors enough; 0 where every prediction is its own
    document.
    """
    if p.n_documents == len(p):
        return 0.0
    sure = np.abs(p.confidence - 0.5) > 0.4
    found = []
    for rows in (np.ones(len(p), bool), sure):
        part = p.take(rows) if rows.any() else None
        if part is not None and events_of(part).fewest >= LEAST_FOR_CORRELATION:
            found.append(_correlation(part))
    return max(found) if found else CAUTIOUS


def _correlation(p: Predictions) -> float:
    """Solve sum of r_i r_j over pairs of a document = its expectation under rho, a tetrachoric series.

    E r_i r_j = sum_k rho^k / k h_k(a_i) h_k(a_j), h_k = phi(a) He_{k-1}(a) / sqrt((k-1)!) (Kendall &
    Stuart). Residuals are centred in ten bins of confidence, so that miscalibration is not dependence.
    """
    w, d = p.weights, p.documents
    place = mass_bins(p.confidence, w, _CENTRING)
    r = p.correct - p.confidence
    mass = np.bincount(place, w)
    mean = np.bincount(place, w * r) / np.where(mass > 0, mass, 1)
    pairs = _pairs(w * (r - mean[place]), d)
    a = probit(p.confidence)
    before, now = np.zeros(len(a)), np.exp(-0.5 * a**2) / np.sqrt(2 * np.pi)
    expected = np.zeros(len(_GRID))
    for k in range(1, _TERMS + 1):
        expected += _GRID**k / k * _pairs(w * now, d).sum()
        before, now = now, (a * now - np.sqrt(k - 1) * before) / np.sqrt(k)
    error = np.sqrt(((pairs - pairs.mean()) ** 2).sum() * len(pairs) / max(len(pairs) - 1, 1))
    return float(np.interp(pairs.sum() + error, np.maximum.accumulate(expected), _GRID))


def _pairs(values: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Sums of products of different rows, by document."""
    return np.bincount(document, values) ** 2 - np.bincount(document, values**2)


def probit(confidence: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The place below which a standard normal lies with that probability; finite."""
    low, high = ndtri(1e-300), -ndtri(1e-300)
    return np.clip(np.where(confidence > 0.5, -ndtri(1 - confidence), ndtri(confidence)), low, high)


def drawn_sums(
    p: Predictions,
    members: Any,
    rho: float,
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws columns"]:
    """Sums of w (confidence - y) over the rows of each column, outcomes y drawn with correlation rho.

    `members` (n, columns) is an array, sparse or not. Where predictions are many, fewer draws are
    made, never under 200.
    """
    w, c = p.weights, p.confidence
    likely = c > 0.5
    usual = np.asarray(members.T @ (w * (c - likely)))
    change = np.where(likely, w, -w)  # what an outcome other than the likely one adds
    limit = np.where(c == likely, np.inf, np.where(likely, 1, -1) * probit(c))
    limit, root = (limit / np.sqrt(1 - rho)).astype(np.float32), np.sqrt(rho / (1 - rho))
    side = (root * np.where(likely, 1, -1)).astype(np.float32)
    draws = min(draws, max(_LEAST_DRAWS, _MOST_DRAWN // len(p)))
    parts, step = [], max(1, _BLOCK // len(p))
    for at in range(0, draws, step):
        size = min(step, draws - at)
        e = rng.standard_normal((size, len(p)), dtype=np.float32)
        if rho > 0:
            z = rng.standard_normal((size, p.n_documents), dtype=np.float32)
            e += side * z[:, p.documents]
        place = np.flatnonzero(e > limit)  # unlikely outcomes, of which there are few
        draw, row = np.divmod(place, len(p))
        other = sparse.csr_array((change[row], (draw, row)), shape=e.shape)
        more: Any = other @ members
        parts.append(usual + (more.toarray() if sparse.issparse(more) else more))
    return np.concatenate(parts)
