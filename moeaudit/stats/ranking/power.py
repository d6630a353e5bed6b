"""What a rank correlation across experts could have found, and what would decide it.

A layer has the experts it has, so more documents help only in part: they make the harm known better
(the ceiling rises, the interval narrows), but luck among 32 experts stays the luck of 32 experts.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ..least import DOCUMENTS_FOR_HARM
from ..sizes.power import power_tost
from .attenuation import Attenuation

FIELLER = 1.06  # variance of Fisher's z of Spearman's rho, times n - 3 (Fieller & Pearson 1961)
MOST_DOCUMENTS = 10_000_000
PLAN = ("power_at_sesoi", "mde", "n_experts_to_decide", "n_documents_to_decide")


def critical_z(critical: float, n_experts: int) -> float:
    """Fisher's z, in standard errors, of the rank correlation critical / sqrt(n - 1); inf from 1 on."""
    rho = critical / math.sqrt(n_experts - 1)
    return math.atanh(rho) / math.sqrt(FIELLER / (n_experts - 3)) if rho < 1 else math.inf


def power_rank(rho: float, n_experts: int, z_critical: float) -> float:
    """Chance that a rank correlation over n experts passes a two-sided test, if it is truly rho."""
    if math.isinf(z_critical):
        return 0.0
    shift = math.atanh(min(abs(rho), 1 - 1e-9)) / math.sqrt(FIELLER / (n_experts - 3))
    return float(
        scipy.stats.norm.sf(z_critical - shift) + scipy.stats.norm.cdf(-z_critical - shift)
    )


def plan(
    n_experts: int,
    n_documents: int,
    noise: Attenuation,
    se: float,
    critical: float,
    sesoi: float | int,
    alpha_equivalence: float,
    power: float | int,
) -> tuple[dict[str, float], str | None]:
    """The columns of `PLAN` (NaN where there is no number) and why one of them is missing.

    Parameters
    ----------
    noise, se
        The harm's reliability, and the standard error of `rho_true` over documents.
    critical
        Critical value of |rho| sqrt(n_experts - 1) under shuffles of the experts.
    sesoi
        The smallest true correlation of interest.

    Notes
    -----
    `mde` is the true correlation found with `power`: seen through the ceiling sqrt(R), at the critical
    value of the family. `n_experts_to_decide` is how many experts a layer would need for a true
    correlation of `sesoi` to be found as well as that. `n_documents_to_decide` is the smallest number
    of documents at which sesoi would be found *and* no correlation be shown equivalent (TOST), each
    with `power`; reliability follows Spearman-Brown, se falls with the root of the documents.
    """
    out: dict[str, float] = {name: float("nan") for name in PLAN}
    z_critical, z_power = critical_z(critical, n_experts), float(scipy.stats.norm.isf(1 - power))
    if math.isinf(z_critical):
        return out, f"no order of {n_experts} experts is unlikely enough to pass the correction"
    if not noise.known:
        return out, "the harm's reliability is not known, and every plan rests on it"
    seen = sesoi * noise.ceiling
    out["power_at_sesoi"] = power_rank(seen, n_experts, z_critical)
    needed = (z_critical + z_power) ** 2 * FIELLER / math.atanh(min(seen, 1 - 1e-9)) ** 2
    out["n_experts_to_decide"] = math.ceil(max(needed, 1.0) + 3)
    found = math.tanh((z_critical + z_power) * math.sqrt(FIELLER / (n_experts - 3)))
    why = None
    if found / noise.ceiling < 1:
        out["mde"] = found / noise.ceiling
    else:
        why = (
            f"even a perfect metric would be found with less than {power:.0%} power: the ceiling is "
            f"{noise.ceiling:.2f}, and {n_experts} experts show {found:.2f} or more"
        )
    best = power_rank(sesoi, n_experts, z_critical)
    if best < power:
        lack = (
            f"no number of documents decides it: of {n_experts} experts a true correlation of "
            f"{sesoi:g} is found with {best:.0%} power at most"
        )
        return out, f"{why}; {lack}" if why else lack

    def decides(documents: int) -> bool:
        k = documents / n_documents
        r = noise.reliability
        reliability = k * r / (1 + (k - 1) * r)
        room = se / math.sqrt(k)
        return (
            power_rank(sesoi * math.sqrt(reliability), n_experts, z_critical) >= power
            and power_tost(sesoi, room, float(documents - 1), alpha_equivalence) >= power
        )

    low, high = DOCUMENTS_FOR_HARM - 1, DOCUMENTS_FOR_HARM
    while not decides(high):
        if high > MOST_DOCUMENTS:
            return out, f"more than {MOST_DOCUMENTS:,} documents would be needed"
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    out["n_documents_to_decide"] = high
    return out, why


def critical_of(null: list[np.ndarray], alpha: float | int) -> float:
    """The (1 - alpha) quantile of the largest statistic of each shuffle over the cells of a family."""
    known = [x for x in null if np.isfinite(x).all()]
    if not known:
        return float("nan")
    return float(np.quantile(np.stack(known).max(axis=0), 1 - alpha, method="higher"))
