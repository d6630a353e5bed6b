"""What is measured of simulated audits: wrong claims, coverage, verdicts."""

from __future__ import annotations

import numpy as np
from scipy import stats

from moeaudit.stats.families import families
from moeaudit.stats.families.maxt import max_t
from moeaudit.stats.sizes import power
from moeaudit.stats.sizes.bootstrap import (
    bca_limits,
    document_weights,
    leave_one_out,
    percentile_limits,
)
from moeaudit.stats.sizes.limits import adjusted_limits, adjusted_tost, jackknife_se
from moeaudit.stats.sizes.moments import Moments, d_z, influence, weighted

from .draws import Draw, cells_of

LEVEL = 0.95
BOUND = 0.1


def p_token(sums: np.ndarray) -> np.ndarray:
    """Paired t by token, from sums."""
    n, first, second = (sums[:, :, k].sum(axis=1) for k in (0, 1, 3))
    t = first / n / np.sqrt((second / n - (first / n) ** 2) / (n - 1))
    return 2 * stats.t.sf(np.abs(t), n - 1)


def p_cluster(sums: np.ndarray) -> np.ndarray:
    n, first = sums[:, :, 0], sums[:, :, 1]
    d = (n > 0).sum(axis=1)
    mean = first.sum(axis=1) / n.sum(axis=1)
    u = first - mean[:, None] * n
    se = np.sqrt(d / (d - 1) * (u**2).sum(axis=1)) / n.sum(axis=1)
    return 2 * stats.t.sf(np.abs(mean / se), d - 1)


def family_wise(draw: Draw, runs: int, seed: int, flips: int) -> dict[str, float]:
    """Share of audits with any false claim at .05, and of single cells by token and by document."""
    rng = np.random.default_rng(seed)
    hits = np.zeros(7)
    for run in range(runs):
        sums = draw(rng)
        first = sums[:, :, 1].T.copy()
        flipped = max_t(first, n_flips=flips, seed=run)
        plain = max_t(first, n_flips=flips, seed=run, statistic="t")
        token, cluster = p_token(sums), p_cluster(sums)
        hits += (
            np.nanmin(flipped.p_maxt) <= 0.05,
            np.nanmin(plain.p_maxt) <= 0.05,
            families.adjust(cluster, "holm").min() <= 0.05,
            families.adjust(token, "bonferroni").min() <= 0.05,
            np.mean(flipped.p_flip <= 0.05),
            np.mean(cluster <= 0.05),
            np.mean(token <= 0.05),
        )
    names = ("max-T", "max-T of plain t", "cluster t, Holm", "token t, Bonferroni")
    names = (*names, "flip", "cluster t", "token t")
    return dict(zip(names, hits / runs))


def coverage(draw: Draw, truth: np.ndarray, runs: int, seed: int, n_boot: int) -> dict[str, float]:
    """Share of 95 % intervals of d_z that hold the truth, cell by cell."""
    rng = np.random.default_rng(seed)
    hits: dict[str, list[bool]] = {}
    weights = np.empty((0, 0))
    for _ in range(runs):
        for m, true in zip(cells_of(draw(rng)), truth):
            if len(weights) == 0:
                weights = document_weights(len(m.sums), n_boot, seed)
            for name, (low, high) in limits(m, weights).items():
                hits.setdefault(name, []).append(bool(low <= true <= high))
    return {name: float(np.mean(x)) for name, x in hits.items()}


def limits(m: Moments, weights: np.ndarray) -> dict[str, tuple[float, float]]:
    d = m.n_documents
    estimate = float(d_z(weighted(m))[0])
    left = d_z(weighted(m, leave_one_out(m.present)))
    draws = d_z(weighted(m, weights))
    t, z = stats.t.isf((1 - LEVEL) / 2, d - 1), stats.norm.isf((1 - LEVEL) / 2)
    reach = {
        "jackknife": t * jackknife_se(left),
        "cluster": t * np.sqrt(d / (d - 1) * (influence(m, "d_z") ** 2).sum()),
        "token": z * np.sqrt(1 / m.n + estimate**2 / (2 * m.n)),
    }
    out = {"adjusted": adjusted_limits(estimate, left, LEVEL)}
    out |= {name: (estimate - r, estimate + r) for name, r in reach.items()}
    out["percentile"] = percentile_limits(draws)
    out["bca"] = bca_limits(estimate, draws, left)
    return out


def claims(draw: Draw, truth: float, runs: int, seed: int, flips: int) -> dict[str, float]:
    """TOST claims, and tests of one cell at .05 with the power predicted for them."""
    rng = np.random.default_rng(seed)
    absent, found, found_t, predicted = [], [], [], []
    for run in range(runs):
        sums = draw(rng)
        found.append(max_t(sums[:, :, 1].T.copy(), n_flips=flips, seed=run).p_flip <= 0.05)
        found_t.append(p_cluster(sums) <= 0.05)
        for m in cells_of(sums):
            d, estimate = m.n_documents, float(d_z(weighted(m))[0])
            left = d_z(weighted(m, leave_one_out(m.present)))
            absent.append(adjusted_tost(estimate, left, BOUND) <= 0.05)
            u = influence(m, "mean_difference")
            sd = float(np.sqrt(weighted(m).var_difference[0]))
            null_se = float(np.sqrt(d / (d - 1) * (u**2).sum())) / sd
            predicted.append(power.power_t(truth, null_se, float(d - 1), 0.05))
    return {
        "equivalent": float(np.mean(absent)),
        "found, flips": float(np.mean(found)),
        "found, t": float(np.mean(found_t)),
        "predicted": float(np.mean(predicted)),
    }
