"""Means of each cell, and of each cell in each domain, with limits by document."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from .numbers import short, shorts
from .sums import Effects

LEVEL = 0.95


def student(
    total: Float[np.ndarray, "documents cells"],
    count: Float[np.ndarray, "documents cells"],
    level: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and limits of each cell, as `stats.Clustered` has them for one table of rows."""
    n, d = count.sum(axis=0), (count > 0).sum(axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total.sum(axis=0) / n
        off = np.where(count > 0, total - np.nan_to_num(mean) * count, 0.0)
        scale = np.where(d > 1, d / np.maximum(d - 1, 1), np.nan)
        half = stats.t.ppf(0.5 + level / 2, np.maximum(d - 1, 1))
        half = half * np.sqrt(scale * (off**2).sum(axis=0)) / n
    return mean, mean - half, mean + half


def of_domains(
    effects: Effects, domain: Int[np.ndarray, " documents"], domains: int
) -> dict[str, list[Any]]:
    """One entry a (cell, domain) with rows: how many, mean harm with limits, mean KL."""
    n, harm, kl = effects.count(), effects.total("delta_nll"), effects.total("kl")
    out: dict[str, list[Any]] = {
        name: []
        for name in ("cell", "domain", "n", "delta_nll", "delta_nll_low", "delta_nll_high", "kl")
    }
    for i in range(domains):
        mine = domain == i
        rows = n[mine].sum(axis=0)
        mean, low, high = student(harm[mine], n[mine], LEVEL)
        there = np.flatnonzero(rows)
        out["cell"] += there.tolist()
        out["domain"] += [i] * len(there)
        out["n"] += rows[there].astype(int).tolist()
        for name, values in (("delta_nll", mean), ("delta_nll_low", low), ("delta_nll_high", high)):
            out[name] += shorts(values[there], 3)
        out["kl"] += [short(k / r, 3) for k, r in zip(kl[mine].sum(axis=0)[there], rows[there])]
    return out
