"""The clean model's calibration by routing state: which experts, in both domains; the worst mix."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moeaudit.calibration.routing.groups import QuantileGroups, RouterClusters
from moeaudit.calibration.routing.routing import routing_calibration
from moeaudit.calibration.shift.worst_case import worst_case
from moeaudit.frames import Frame

from .reading import Reading, RoutingSeen
from .tables import IN, METHODS, SHIFTED, Condition

CLUSTERS = 8
RADII = (0.05, 0.5)
PERMUTATIONS = 200


def routing_groups(fit: Reading, seed: int) -> dict[str, object]:
    """Rules learnt on the fit documents: cuts of gate entropy and cancellation, router clusters."""
    assert fit.routing is not None
    seen = fit.routing
    return {
        "gate entropy": QuantileGroups.of(seen.entropy.mean(axis=1), 4, "q"),
        "cancellation": QuantileGroups.of(seen.cancellation.mean(axis=1), 4, "q"),
        "router cluster": RouterClusters.of(seen.vectors, CLUSTERS, seed=seed),
    }


def labels(seen: RoutingSeen, rules: dict[str, object]) -> dict[str, np.ndarray]:
    """Every grouping of one reading's tokens."""
    out = {
        f"layer {layer} top-1": np.array([f"expert {e}" for e in seen.top1[:, k].tolist()])
        for k, layer in enumerate(seen.layers)
    }
    values = {
        "gate entropy": seen.entropy.mean(axis=1),
        "cancellation": seen.cancellation.mean(axis=1),
        "router cluster": seen.vectors,
    }
    for name, rule in rules.items():
        assert isinstance(rule, QuantileGroups | RouterClusters)
        out[name] = rule.label(values[name])
    return out


def routing_tables(
    clean: Condition, fit: Reading, *, alpha: float, draws: int, seed: int
) -> tuple[Frame, Frame]:
    """(calibration by routing group with its replication under shift, worst mixes of groups).

    Both with and without the temperature: what remains after one temperature is what routing
    knows and the confidence does not.
    """
    rules = routing_groups(fit, seed)
    here, there = (clean.sides[side].routing for side in (IN, SHIFTED))
    assert here is not None and there is not None
    groups, others = labels(here, rules), labels(there, rules)
    found, worst = [], []
    for method in METHODS:
        p, _ = clean.predictions(IN, method)
        q, _ = clean.predictions(SHIFTED, method)
        table = routing_calibration(
            p,
            groups,
            bins=(0.0, 0.25, 0.5, 0.75, 1.0),
            replication=q,
            replication_groups=others,
            alpha=alpha,
            n_flips=2000,
            draws=draws,
            seed=seed,
        )
        found.append(table.assign(method=method))
        for name, labelled in groups.items():
            mixes = worst_case(
                p,
                labelled,
                radii=RADII,
                within=p.group,
                n_permutations=min(draws, PERMUTATIONS),
                seed=seed,
            )
            worst.append(mixes.assign(grouping=name, method=method))
    return _front(pd.concat(found, ignore_index=True)), _front(pd.concat(worst, ignore_index=True))


def _front(table: Frame) -> Frame:
    keys = ["method", "grouping"]
    return table[[*keys, *(c for c in table.columns if c not in keys)]]
