"""What is measured on one model: sites against banks, agreement of choices, use of banks, merging after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.lab.tying import post_hoc_tying
from moeaudit.observe import bank_load

from ..shared import require_agrees

AGREEMENT = ("jaccard", "distinct", "top_1")


def additivity(model: ma.Model, docs: Any, groups: Any) -> tuple[pd.DataFrame, str]:
    """Means by number of sites (banks together) of one model, and what the second way says."""
    layers = sorted(i for group in groups for i in group)
    bank = ma.ablate(model, docs, ma.Bank(groups), layers=layers, progress=False)
    single = ma.ablate(model, docs, ma.Zero(), layers=layers, progress=False)
    verified = require_agrees(ma.verify(bank, model, n=8, progress=False))
    table = ma.bank_additivity(bank, single, groups)
    sites = np.where(table["sites"] > 1, "two or more", "one")
    means = table.assign(sites=sites).groupby("sites")[["whole", "sum", "gap"]].mean()
    shares = table.assign(sites=sites).groupby("sites").size() / len(table)
    return means.assign(share=shares, removals=len(table)).reset_index(), verified


def agreement(model: ma.Model, docs: Any, groups: Any) -> dict[str, float]:
    """Agreement of the sites' choices, means over tokens of all documents and banks."""
    table = ma.site_agreement(model, docs, groups)
    columns = [f"{n}{e}" for n in AGREEMENT for e in ("", "_same_input", "_gap")]
    weights = table["tokens"].to_numpy(float)
    found = {name: float(np.average(table[name], weights=weights)) for name in columns}
    return found | {"jaccard_chance": float(table["jaccard_chance"].iloc[0])}


def load(model: ma.Model, docs: Any, groups: Any) -> dict[str, float]:
    """Experts of a bank that no site chooses, and layers' experts that the layer alone does not."""
    trace = ma.capture(model, docs, progress=False)
    table = bank_load(trace, groups)
    sites = sum(len(group) for group in groups)
    alone = 1 - table["sites"].sum() / (len(table) / len(groups) * sites)
    return {
        "dead_in_bank": float(table["dead"].mean()),
        "idle_at_site": float(alone),
        "nll_here": float(trace.tokens["nll"].mean()),
    }


def merged(model: ma.Model, docs: Any, groups: Any) -> dict[str, float]:
    """Harm of making trained layers share their experts: nats a token."""
    before = ma.capture(model, docs, progress=False).tokens["nll"].mean()
    found = {}
    for to in ("mean", "leader"):
        with post_hoc_tying(model.hf, groups=groups, to=to):
            after = ma.capture(model, docs, progress=False).tokens["nll"].mean()
        found[f"post_hoc_{to}"] = float(after - before)
    return found
