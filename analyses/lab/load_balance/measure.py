"""What is measured on one model: balance by scope, separation of domains in routing and in effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import moeaudit as ma

PERMUTATIONS = 199
LEAST = 8  # removals of an expert in a domain, for its mean harm there


def routing(trace: Any) -> dict[str, float]:
    """Means over layers of balance at each scope, and of the separation of domains with its null."""
    balance = ma.load_balance(trace, micro="domain")
    index = ma.domain_separation(trace, permutations=PERMUTATIONS)
    found = {
        name: float(balance[name].mean()) for name in ("sequence", "micro", "shuffled", "global")
    }
    found |= {name: float(index[name].mean()) for name in ("separation", "excess")}
    return found | {"layers_beyond_null": float((index["p_value"] <= 0.05).mean())}


def causal(effects: pd.DataFrame, trace: Any) -> dict[str, float]:
    """Means over layers: concentration of slots and of KL by domain, and whether harm follows use."""
    domain = trace.tokens.groupby("document")["domain"].first().astype(str)
    table = pd.DataFrame(effects).assign(
        domain=domain.reindex(effects["document"].to_numpy()).to_numpy()
    )
    sizes = trace.facts.num_experts
    parts = [_layer(part, int(sizes[layer])) for layer, part in table.groupby("layer")]
    return {name: float(np.nanmean([part[name] for part in parts])) for name in parts[0]}


def _layer(part: pd.DataFrame, experts: int) -> dict[str, float]:
    documents, place = np.unique(part["document"], return_inverse=True)
    label = part.groupby(place)["domain"].first().to_numpy()
    labels, code = np.unique(label, return_inverse=True)
    cell = place * experts + part["expert"].to_numpy()
    shape = (len(documents), experts)

    def laid(weight: Any) -> np.ndarray:
        return np.bincount(cell, weights=weight, minlength=np.prod(shape)).reshape(shape)

    slots, kl = laid(np.ones(len(part))), laid(part["kl"].to_numpy(float))
    harm = laid(part["delta_nll"].to_numpy(float))
    found = {}
    for name, mass in (("slots", slots), ("kl", kl)):
        ratio, excess = concentration(mass, code)
        found |= {f"{name}_ratio": ratio, f"{name}_excess": excess}
    of = np.eye(len(labels))[code].T
    used, total = of @ slots, slots.sum(axis=0)
    for name, mass in (("harm", harm), ("kl", kl)):
        found[f"{name}_follows_use"] = follows(of @ mass, used, total, mass.sum(axis=0))
    return found


def concentration(
    mass: np.ndarray, code: np.ndarray, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """Concentration of an expert's share within domains over that of all together, and what chance leaves of it.

    E sum p^2 of each domain, mean, over E sum of the mean p squared: 1 where every domain's mass falls on experts
    alike. The null deals the domain labels out anew to whole documents.
    """

    def ratio(order: np.ndarray) -> float:
        share = np.eye(code.max() + 1)[order].T @ mass
        share = share / share.sum(axis=1, keepdims=True)
        return float((share**2).sum(axis=1).mean() / (share.mean(axis=0) ** 2).sum())

    rng = np.random.default_rng(0)
    null = [ratio(rng.permutation(code)) for _ in range(permutations)]
    return ratio(code), ratio(code) - float(np.mean(null))


def follows(mass: np.ndarray, used: np.ndarray, total: np.ndarray, whole: np.ndarray) -> float:
    """Spearman over (domain, expert): how much more a domain uses an expert, and how much more a removal costs there.

    Both are centred by expert: log of the domain's share of the expert's slots over the mean, and the mean effect of a
    removal there less the expert's own. NaN with fewer than five cells that hold enough removals.
    """
    enough = used >= LEAST
    if enough.sum() < 5:
        return float("nan")
    tokens = used.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.log(used / tokens) - np.log(total / total.sum())
        cost = mass / used - whole / total
    return float(stats.spearmanr(more[enough], cost[enough])[0])
