"""What is measured of one model: pools of its documents, how it keeps when experts go, how modular it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.observe.modularity import modularity_scores, router_mean, router_vectors
from moeaudit.pruning.criteria.greedy import greedy_router_mean
from moeaudit.stats.clustered import Clustered

OWN, RANDOM, ONE = "the document's own", "random", "one for all documents"
GREEDY = "router_mean_greedy"
CRITERIA = {"router_mean": router_mean, "easy_ep": None, "causal_harm": None}


def sizes_of(model: ma.Model) -> list[int]:
    """Pools from all experts down to top-k, each half as large."""
    layer = model.anatomy.layers[0]
    found, size = [], layer.num_experts
    while size >= layer.top_k:
        found.append(size)
        size //= 2
    return found if found[-1] == layer.top_k else [*found, layer.top_k]


def pools(model: ma.Model, docs: Any, elsewhere: Any, draws: int) -> pd.DataFrame:
    """Change of the loss, nats a token, when documents choose from pools of d experts; limits by document.

    series: each document's own pool, random pools (a mean over draws), one pool for all documents (the router's
    mean elsewhere).
    """
    scores: Any = router_mean(model, elsewhere)
    experts = {layer.index: layer.num_experts for layer in model.anatomy.layers}
    parts = []
    for size in sizes_of(model):
        own = ma.ablate(model, docs, ma.DocumentPool(size), progress=False)
        parts.append(_limits(own, OWN, size))
        drawn = [
            ma.ablate(model, docs, ma.DocumentPool(size, draw="random", seed=s), progress=False)
            for s in range(draws)
        ]
        mean = drawn[0].assign(delta_nll=np.mean([each.delta_nll for each in drawn], axis=0))
        parts.append(_limits(mean, RANDOM, size))
        gone = {
            layer: scores[scores.layer == layer].nsmallest(n - size, "score").expert.tolist()
            for layer, n in experts.items()
        }
        if size < min(experts.values()):
            one = ma.ablate(model, docs, ma.Without(gone), progress=False)
        else:
            one = own.assign(delta_nll=0.0)
        parts.append(_limits(one, ONE, size))
    return pd.concat(parts, ignore_index=True)


def _limits(effects: Any, series: str, size: int) -> pd.DataFrame:
    plain = pd.DataFrame(effects[["document", "delta_nll"]]).assign(series=series, size=size)
    found = Clustered(["series", "size"], ["delta_nll"])(plain)
    return found.rename(
        columns={"delta_nll": "value", "delta_nll_low": "low", "delta_nll_high": "high"}
    )


def retention(
    model: ma.Model, docs: Any, elsewhere: Any, draws: int
) -> tuple[pd.DataFrame, list[str]]:
    """Loss against the share of experts kept, by each selector, and the band of random choices; and notes."""
    layer = model.anatomy.layers[0]
    keep = [size / layer.num_experts for size in sizes_of(model)[1:]]
    curve = ma.prune_curve(model, docs, CRITERIA, keep, calibration=elsewhere, draws=draws)
    table: Any = curve.overview()
    table = table[table["kind"] != "whole"]
    table = table.rename(columns={"criterion": "series", "d_nll": "value"})
    columns = ["series", "keep", "value", "low", "high", "kl", "better_than_random"]
    told = pd.concat([table, greedy(model, docs, elsewhere, keep)], ignore_index=True)
    return told[[c for c in columns if c in told]], list(curve.notes)


def greedy(model: ma.Model, docs: Any, elsewhere: Any, keep: list[float]) -> pd.DataFrame:
    """The same by EMO's own selector, which prunes layer after layer: a ranking of its own for each share.

    It reads the other documents once a layer and share. Evaluated apart, so that what the others are held against
    (a random choice among so many criteria) is what it was; so nothing is said of it against random choices.
    """
    parts = []
    for share in keep:
        ranking = greedy_router_mean(model, elsewhere, share)
        curve = ma.prune_curve(
            model, docs, {GREEDY: ranking}, [share], calibration=elsewhere, draws=0
        )
        table: Any = curve.overview()
        parts.append(table[table["kind"] != "whole"])
    return pd.concat(parts).rename(columns={"criterion": "series", "d_nll": "value"})


def slopes(table: pd.DataFrame) -> dict[str, float]:
    """Nats a token that each halving of the experts costs: a line from nothing lost at all of them, least squares."""
    found = {}
    for series, part in table.groupby("series", sort=False):
        x, y = -np.log2(part["keep"].to_numpy(float)), part["value"].to_numpy(float)
        found[str(series)] = float((x @ y) / (x @ x))
    return found


def modular(
    model: ma.Model, docs: Any, permutations: int, clusters: int, first: int
) -> pd.DataFrame:
    return modularity_scores(
        router_vectors(model, docs, first=first), permutations=permutations, clusters=clusters
    )


def row(pooled: pd.DataFrame, kept: pd.DataFrame, scores: pd.DataFrame) -> dict[str, float]:
    """One model in a row, as arms are compared."""
    values = {f"slope_{name}": value for name, value in slopes(kept).items()}
    values["slope_router_mean_less_random"] = values["slope_router_mean"] - values["slope_random"]
    quarter = kept[np.isclose(kept["keep"], 0.25)]
    values |= {f"quarter_{r.series}": r.value for r in quarter.itertuples()}
    wide = pooled.pivot(index="size", columns="series", values="value")
    mid = wide.index[len(wide) // 2]
    values |= {
        "pool_own": wide.loc[mid, OWN],
        "pool_own_less_random": wide.loc[mid, OWN] - wide.loc[mid, RANDOM],
        "pool_own_less_one": wide.loc[mid, OWN] - wide.loc[mid, ONE],
    }
    for name, part in scores.groupby("score", sort=False):
        values[str(name)] = float(part["value"].mean())
        values[f"{name}_less_null"] = float((part["value"] - part["null_mean"]).mean())
    return {name: float(value) for name, value in values.items()}
