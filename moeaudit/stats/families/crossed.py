"""Experts and documents both as samples: the interval of "a metric of experts like these".

Limits by document hold the experts fixed. Here the variance that comes from *which* experts a layer
has is added, as in the crossed bootstrap (Owen 2007), but from sums: two tokens vary together if they
share a document or an expert (variance of dyads: Snijders & Borgatti 1999; Aronow, Samii & Assenova 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

LEAST_EXPERTS = 6


@dataclass(frozen=True)
class OverExperts:
    """The part of an estimate's variance that comes from its experts, in squared units of it.

    `dof`: how well it is known. `reason` says why it is not.
    """

    variance: float
    dof: float
    reason: str | None = None

    def around(
        self, estimate: float, low: float, high: float, level: float | int
    ) -> tuple[float, float]:
        """Limits by document, each side lengthened by the experts' part: never shorter than they were."""
        if self.reason is not None:
            return float("nan"), float("nan")
        t = -float(
            scipy.special.stdtrit(max(self.dof, 1.0), (1 - level) / 2)
        )  # stats.t.isf, in less time
        reach = t * math.sqrt(self.variance)
        return estimate - math.hypot(estimate - low, reach), estimate + math.hypot(
            high - estimate, reach
        )


def unknown(reason: str) -> OverExperts:
    """No such part, and why."""
    return OverExperts(float("nan"), float("nan"), reason)


def d_z_over_experts(
    difference: Float[np.ndarray, " tokens"],
    document: Int[np.ndarray, " tokens"],
    pair: Int[np.ndarray, "tokens 2"] | None,
) -> OverExperts:
    """The experts' part of the variance of d_z; `pair` holds each token's two experts.

    A jackknife over experts (tokens that compare the expert are left out), times K / (K - 2) for K experts,
    since each token needs two of them. It also holds what tokens of one document share, which the
    documents' part has; and tokens with the same two experts twice. Both are taken off, by the
    influence of each token on d_z. Degrees of freedom: with w the share of tokens an expert is first in
    less that it is last in, what experts add is sum of w u, so (sum w^2)^2 / (sum w^4) of them count.
    """
    if pair is None:
        return unknown("which experts were compared is not known")
    n, (expert, place) = len(difference), np.unique(pair, return_inverse=True)
    top, bottom = place.reshape(-1, 2).T
    k = len(expert)
    if k < LEAST_EXPERTS:
        return unknown(f"only {k} experts were compared, and {LEAST_EXPERTS} are needed")

    def by_expert(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(top, values, k) + np.bincount(bottom, values, k)

    mean, var = float(difference.mean()), float(difference.var(ddof=1))
    if not var > 0:
        return unknown("the differences have no spread")
    centred = difference - mean
    left_n = n - by_expert(None)
    if left_n.min() < 2:
        return unknown("one expert is compared in nearly every token")
    first = (centred.sum() - by_expert(centred)) / left_n
    second = ((centred**2).sum() - by_expert(centred**2)) / left_n
    spread = np.sqrt(np.maximum(second - first**2, 0.0) * left_n / (left_n - 1))
    if not (spread > 0).all():
        return unknown("leaving one expert out leaves no spread")
    left = (mean + first) / spread
    jackknife = (k - 1) / k * ((left - left.mean()) ** 2).sum()
    z = centred / math.sqrt(var)
    influence = (z - mean / math.sqrt(var) * (z**2 - 1) / 2) / n
    both = np.minimum(top, bottom) * k + np.maximum(top, bottom)
    twice = np.concatenate([influence, influence])
    member = np.concatenate([document * k + top, document * k + bottom])
    shared = (
        squared_sums(member, twice)
        + squared_sums(both, influence)
        - squared_sums(document * k**2 + both, influence)
    )
    w = (np.bincount(top, minlength=k) - np.bincount(bottom, minlength=k)) / n
    dof = (w**2).sum() ** 2 / max((w**4).sum(), 1e-300)
    return OverExperts(max(float(jackknife - shared), 0.0) * k / (k - 2), float(max(dof, 1.0)))


def slope_over_experts(
    x: Float[np.ndarray, " rows"],
    y: Float[np.ndarray, " rows"],
    expert: Int[np.ndarray, " rows"],
    document: Int[np.ndarray, " rows"],
) -> OverExperts:
    """The same part of a slope of y on x (both centred), where every row has one expert.

    A jackknife over experts, less what rows of one document and expert share, which the documents' part has.
    """
    place = np.unique(expert, return_inverse=True)[1]
    k = int(place.max(initial=-1)) + 1
    if k < LEAST_EXPERTS:
        return unknown(f"only {k} experts have a value, and {LEAST_EXPERTS} are needed")
    above, below = np.bincount(place, x * y), np.bincount(place, x * x)
    whole = below.sum()
    if not (whole - below > 1e-12 * whole).all():
        return unknown("leaving one expert out leaves the metric without a spread")
    left = (above.sum() - above) / (whole - below)
    jackknife = (k - 1) / k * ((left - left.mean()) ** 2).sum()
    scores = x * (y - above.sum() / whole * x) / whole
    shared = squared_sums(document.astype(np.int64) * k + place, scores)
    w = np.bincount(place, x)
    dof = max((w**2).sum() ** 2 / max((w**4).sum(), 1e-300), 1.0)
    return OverExperts(max(float(jackknife - shared), 0.0), float(min(dof, k - 1)))


def averaged(parts: list[OverExperts]) -> OverExperts:
    """The part of a mean over layers, whose experts are different ones (Satterthwaite's degrees of freedom)."""
    refused = [p.reason for p in parts if p.reason is not None]
    if refused or not parts:
        return unknown(refused[0] if refused else "no layer gives a contrast")
    total = sum(p.variance for p in parts)
    below = sum(p.variance**2 / p.dof for p in parts)
    return OverExperts(
        total / len(parts) ** 2, total**2 / below if below > 0 else float(len(parts))
    )


def squared_sums(key: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> float:
    """Sum over keys of the square of their values' sum."""
    _, place = np.unique(key, return_inverse=True)
    return float((np.bincount(place, values) ** 2).sum())
