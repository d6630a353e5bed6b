"""One metric in one layer: its rank correlations with the experts' harm, their limits and nulls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from ..contrast.protocol import Protocol
from ..few import too_few
from ..sizes.lengths import p_lengths
from .attenuation import Attenuation
from .correlation import kendall_limits, kendall_rows, spearman_limits, spearman_rows
from .harm import Harm
from .size import COLUMNS as SIZED
from .size import OverRanked, Size

MIN_EXPERTS = 4
LEAST_REPLICATES = 20
UNRELIABLE = "halves of the documents do not agree on the harm of these experts"
ABOVE_CEILING = "the correlation lies above the ceiling, which is an estimate with limits of its own and no bound"
IS_USE = "the metric orders the experts as their use does"
_LIMITS = ("low", "high", "analytic_low", "analytic_high")


@dataclass(frozen=True)
class Ranked:
    """A row, and what its family needs of it.

    `experts`: |rho| sqrt(n - 1) under each shuffle of the experts; `documents`: the size of each
    resampling's deviation in standard errors; `halves`: rho in each half of each halving of the documents,
    on the scale of all of them. All NaN where there is no number, and there is no `size` then.
    """

    row: dict[str, Any]
    experts: Float[np.ndarray, " shuffles"]
    documents: Float[np.ndarray, " n_boot"]
    halves: Float[np.ndarray, "2 halvings"]
    size: Size | None = None


@dataclass(frozen=True)
class Draws:
    """The random choices that all metrics of a layer share."""

    weights: Float[np.ndarray, "n_boot documents"]
    shuffles: np.ndarray
    halves: Float[np.ndarray, "halvings documents"]


def ranked(
    harm: Harm, score: np.ndarray, draws: Draws, noise: Attenuation, recipe: Protocol
) -> Ranked:
    """Rank the experts of `harm` by a score for each (NaN where it has none)."""
    mean = harm.mean(np.ones((1, len(harm.tokens))))[0]
    use = ~np.isnan(score) & ~np.isnan(mean)
    low, high = noise.ceiling_limits
    row: dict[str, Any] = {
        "n": int(harm.count.sum()),
        "n_documents": int((harm.count.sum(axis=1) > 0).sum()),
        "n_experts": int(use.sum()),
        "n_dropped": harm.n_dropped + int((~use).sum()),
        "reliability": noise.reliability,
        "ceiling": noise.ceiling,
        "ceiling_low": low,
        "ceiling_high": high,
        "reason": _why_not(score[use], mean[use]),
        "caution": None if noise.known else UNRELIABLE,
        "too_few": _too_few(harm) if recipe.withhold else None,
    }
    for key in ("rho", "tau"):
        row |= dict.fromkeys((key, *(f"{key}_{s}" for s in _LIMITS)), np.nan)
    numbers = ("rho_true", "rho_true_low", "rho_true_high", "se", "p", "z", "p_documents")
    row |= dict.fromkeys((*numbers, "z_documents", "rho_given_use"), np.nan)
    row |= {"no_given_use": "no correlation", **dict.fromkeys(SIZED, np.nan)}
    row["no_crossed"] = row["reason"]
    if row["reason"] is not None:
        return _nothing(row, draws)
    x, y = score[None, use], mean[use]
    resampled = harm.mean(draws.weights)[:, use]
    replicates = resampled[~np.isnan(resampled).any(axis=1)]
    if len(replicates) < LEAST_REPLICATES:
        row["reason"] = (
            f"every expert occurs in only {len(replicates)} of {len(draws.weights)} resamplings of the "
            "documents: too few for an interval"
        )
        row["no_crossed"] = row["reason"]
        return _nothing(row, draws)
    n = int(use.sum())
    deviations, seen_se = np.empty(0), np.nan
    for key, rows_of, limits in (
        ("rho", spearman_rows, spearman_limits),
        ("tau", kendall_rows, kendall_limits),
    ):
        estimate = float(rows_of(x, y[None])[0, 0])
        found = rows_of(x, replicates)[:, 0]
        found = found[np.isfinite(found)]
        low, high = noise.observed_limits(found, recipe.level)
        a_low, a_high = limits(estimate, n, recipe.level)
        row |= dict(
            zip((key, *(f"{key}_{s}" for s in _LIMITS)), (estimate, low, high, a_low, a_high))
        )
        if key == "rho":
            row["rho_true"] = noise.true(estimate)
            row["rho_true_low"], row["rho_true_high"] = noise.true_limits(found, recipe.level)
            row["se"], seen_se = noise.true_se(found), noise.observed_se(found)
            row |= _by_documents(noise.z_documents(estimate, found), row["n_documents"])
            deviations = _deviations(found, len(draws.weights))
    if noise.known and abs(row["rho"]) > noise.ceiling:
        row["caution"] = ABOVE_CEILING
    size = Size(row["rho"], seen_se, row["n_documents"], OverRanked.of(x[0], y), noise)
    row |= size.columns(recipe.level)
    row |= _given_use(row["rho"], x[0], y, harm.count.sum(axis=0)[use])
    # The order a shuffle of all experts induces on those in use is a uniform shuffle of them.
    places = np.argsort(draws.shuffles[:, use], axis=1)
    null = np.abs(spearman_rows(x, y[places])[:, 0])
    row["p"] = float((1 + (null >= abs(row["rho"]) - 1e-12).sum()) / (1 + len(null)))
    # On one scale for layers with different numbers of experts.
    row["z"] = abs(row["rho"]) * np.sqrt(n - 1)
    halves = np.stack(
        [spearman_rows(x, harm.mean(w)[:, use])[:, 0] for w in (draws.halves, 1 - draws.halves)]
    )
    halves = np.clip(halves * noise.from_half, -1, 1)
    return Ranked(row, null * np.sqrt(n - 1), deviations, halves, size)


def _too_few(harm: Harm) -> str | None:
    """By the effects of all experts: what few documents carry, or lengths decide, is in each one's mean."""
    sums, count = harm.total.sum(axis=1), harm.count.sum(axis=1)
    return too_few(sums, count, p_lengths=p_lengths(sums, count))


def _nothing(row: dict[str, Any], draws: Draws) -> Ranked:
    sizes = (len(draws.shuffles), len(draws.weights), (2, len(draws.halves)))
    experts, documents, halves = (np.full(size, np.nan) for size in sizes)
    return Ranked(row, experts, documents, halves)


def _by_documents(z: float, n_documents: int) -> dict[str, float]:
    """p of the correlation for these experts, by Student's t over documents; `z_documents` is the
    normal deviate of the same p."""
    p = float(2 * scipy.stats.t.sf(z, max(n_documents - 1, 1)))
    return {"p_documents": p, "z_documents": float(scipy.stats.norm.isf(p / 2))}


def _deviations(found: np.ndarray, size: int) -> np.ndarray:
    """Sizes of the resamplings' deviations in standard errors, one for each of `size` resamplings; those in
    which an expert does not occur repeat others."""
    spread = found.std(ddof=1)
    z = np.abs(found - found.mean()) / spread if spread > 0 else np.zeros(len(found))
    return np.resize(z, size)


def _given_use(rho: float, x: np.ndarray, y: np.ndarray, use: np.ndarray) -> dict[str, Any]:
    """Partial rank correlation of metric and harm given how often the experts were active: Kendall's
    (r_xy - r_xu r_yu) / sqrt((1 - r_xu^2)(1 - r_yu^2)) on ranks; a description, without a test."""
    if np.ptp(use) == 0:
        return {"rho_given_use": rho, "no_given_use": None}
    with_x, with_y = spearman_rows(use[None], np.stack([x, y]))[:, 0]
    below = (1 - with_x**2) * (1 - with_y**2)
    if below <= 1e-9:
        return {"no_given_use": IS_USE}
    return {"rho_given_use": (rho - with_x * with_y) / np.sqrt(below), "no_given_use": None}


def _why_not(score: np.ndarray, mean: np.ndarray) -> str | None:
    if len(score) < MIN_EXPERTS:
        return f"only {len(score)} experts have both a value and harm; {MIN_EXPERTS} are needed"
    if np.ptp(score) == 0:
        return "the metric is the same for every expert"
    if np.ptp(mean) == 0:
        return "the expected harm is the same for every expert"
    return None
