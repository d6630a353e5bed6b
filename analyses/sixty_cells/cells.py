"""The published cells of one run: this suite's statistics beside the published recipe's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.frames import Frame
from moeaudit.stats import get_protocol
from moeaudit.stats.contrast.contrast import QUESTION
from moeaudit.stats.contrast.protocol import choose_layers
from moeaudit.stats.sizes.equivalence import EQUIVALENT, INCONCLUSIVE, PREDICTIVE, REVERSED, SHOWN

METRICS = ("utilisation", "activation_norm", "mean_weight", "activation_sd")
OUTCOMES = ("delta_nll", "abs_delta_nll", "kl")
RECIPE = "engmann2026"
# Of the suite's own table; the names are explained in docs/methods/statistics.md.
OURS = [
    *("n", "n_documents", "d_z", "d_z_low", "d_z_high", "p_maxt", "p_experts_maxt"),
    *("p_equivalence", "mde", "power_at_sesoi", "n_documents_to_decide", "d_z_oracle", "of_oracle"),
    *("verdict_these_experts", "verdict", "reason"),
]


def published_layers(indices: list[int]) -> list[int]:
    """The five layers of the paper among a model's MoE layers (0, 4, 7, 11, 15 of 16 and so on)."""
    return choose_layers(get_protocol(RECIPE), indices)


def cells_of(run: ma.Run, seed: int) -> Frame:
    """One row per outcome, metric and layer, and per control: ours, then (`recipe_...`) the recipe's.

    The recipe: 200 positions by seed 42, a paired t test by token at .05 over the number of cells, d with
    the ddof = 0 deviation. `recipe_claims` is its first version's (the t test survives), `recipe_claims_v2`
    that of the second (the t test and Wilcoxon's both do, and d > 0).
    """
    tests = run.tests
    ours = tests[(tests["question"] == QUESTION) & tests["outcome"].isin(OUTCOMES)]
    keys = ["outcome", "role", "metric", "layer"]
    table = ours[[*keys, *OURS]].reset_index(drop=True)
    recipe = pd.concat([_recipe(run, outcome, seed) for outcome in OUTCOMES], ignore_index=True)
    table = table.merge(recipe, on=keys, how="left", validate="one_to_one")
    table.insert(0, "model", run.spec.model)
    return table


def _recipe(run: ma.Run, outcome: str, seed: int) -> Frame:
    experts = run.experts[run.experts["metric"].isin(METRICS)]
    found: Frame = ma.contrast(
        run.shards,
        experts,
        outcome=outcome,
        protocol=RECIPE,
        controls=("random", "random_score", "gate_weight"),
        seed=seed,
    )
    n = found["n"].to_numpy(float)
    names = {"n": "recipe_n", "p_t": "recipe_p_t", "p_wilcoxon": "recipe_p_wilcoxon"}
    out: Frame = pd.DataFrame(found[["outcome", "role", "metric", "layer", *names]])
    out = out.rename(columns=names)
    out["recipe_d"] = found["d_z"].to_numpy(float, na_value=np.nan) * np.sqrt(
        n / np.maximum(n - 1, 1)
    )
    size = found["family_size"].to_numpy(float, na_value=np.nan)
    p_t, p_w = (found[c].to_numpy(float, na_value=np.nan) for c in ("p_t", "p_wilcoxon"))
    out["recipe_claims"] = p_t * size <= 0.05
    out["recipe_claims_v2"] = (np.maximum(p_t, p_w) * size <= 0.05) & (out["recipe_d"] > 0)
    return out


def summary_of(cells: Frame) -> Frame:
    """Counts by model and outcome, of the metrics' cells."""
    rows: list[dict[str, Any]] = []
    metrics = cells[cells["role"] == "metric"]
    for (model, outcome), part in metrics.groupby(["model", "outcome"], sort=False):
        these, layer = (part[c].value_counts() for c in ("verdict_these_experts", "verdict"))
        rows.append(
            {
                "model": model,
                "outcome": outcome,
                "cells": len(part),
                "over documents": sum(int(these.get(c, 0)) for c in SHOWN),
                "over experts too": sum(int(layer.get(c, 0)) for c in SHOWN),
                "above the bound": int(layer.get(PREDICTIVE, 0)) + int(layer.get(REVERSED, 0)),
                "equivalent to none": int(layer.get(EQUIVALENT, 0)),
                "inconclusive": int(layer.get(INCONCLUSIVE, 0)),
                "recipe, first version": int(part["recipe_claims"].sum()),
                "recipe, second version": int(part["recipe_claims_v2"].sum()),
                "median |d_z|": float(part["d_z"].abs().median()),
                "median |d| of the recipe": float(part["recipe_d"].abs().median()),
            }
        )
    return pd.DataFrame(rows)
