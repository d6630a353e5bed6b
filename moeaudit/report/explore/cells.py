"""Means of each cell, and of each cell in each domain, with limits by document."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from moeaudit.stats.sizes.limits import means_of_columns

from .numbers import short, shorts
from .sums import Effects

LEVEL = 0.95


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
        mean, low, high = means_of_columns(harm[mine], n[mine], LEVEL)
        there = np.flatnonzero(rows)
        out["cell"] += there.tolist()
        out["domain"] += [i] * len(there)
        out["n"] += rows[there].astype(int).tolist()
        for name, values in (("delta_nll", mean), ("delta_nll_low", low), ("delta_nll_high", high)):
            out[name] += shorts(values[there], 3)
        out["kl"] += [short(k / r, 3) for k, r in zip(kl[mine].sum(axis=0)[there], rows[there])]
    return out
