"""The numbers behind the figures: means with document-clustered intervals, quantiles, counts.

Everything here is a plain table. Raw values stay raw; rounding is the display's affair.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from moeaudit.frames import Frame

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
LEVEL = 0.95


def clustered_means(
    frame: Frame, values: list[str], by: list[str], cluster: str = "document"
) -> Frame:
    """Mean of each value in each group, with a 95% interval that takes documents as the unit.

    The mean over a group's rows is a ratio of document sums, m = sum(s_d) / sum(n_d). Its variance
    is G/(G-1) * sum((s_d - m n_d)^2) / N^2 over the G documents of the group (linearised ratio
    estimator; Cochran, Sampling Techniques, 1977, section 6.3), and the interval uses Student's t
    with G - 1 degrees of freedom. With one document there is no interval: low and high are NaN.

    Returns one row per group: `by`, `rows`, `documents`, and per value `v`, `v_low`, `v_high`.
    """
    numbers = frame[values].astype("float64")
    keyed: Frame = pd.concat([frame[[*by, cluster]], numbers], axis=1)
    by_document: Frame = keyed.groupby([*by, cluster], observed=True)
    sums: Frame = by_document[values].sum().assign(n=by_document.size()).reset_index()
    groups = sums.groupby(by, observed=True)
    out: Frame = groups["n"].agg(rows="sum", documents="size")
    g = out["documents"].to_numpy(dtype="float64")
    scale = np.where(g > 1, g / np.maximum(g - 1, 1), np.nan)
    quantile = stats.t.ppf(0.5 + LEVEL / 2, np.maximum(g - 1, 1))
    for value in values:
        m = groups[value].transform("sum") / groups["n"].transform("sum")
        squared = sums.assign(r2=(sums[value] - m * sums["n"]) ** 2)
        squares = squared.groupby(by, observed=True)["r2"].sum()
        mean = groups[value].sum() / out["rows"]
        half = quantile * np.sqrt(scale * squares) / out["rows"]
        out[value], out[f"{value}_low"], out[f"{value}_high"] = mean, mean - half, mean + half
    return out.reset_index()


def overall(effects: Frame) -> dict[str, float]:
    """One row for the whole census: mean harm, KL and flip rate with intervals, share harmful."""
    table = effects[["document", "delta_nll", "kl", "flip"]].assign(
        all=0, harmful=effects["delta_nll"] > 0
    )
    row = clustered_means(table, ["delta_nll", "kl", "flip", "harmful"], ["all"]).iloc[0]
    return {str(key): float(value) for key, value in row.items() if key != "all"}


def cells(effects: Frame, experts_of: dict[int, int]) -> Frame:
    """One row per (layer, expert) of the audited layers, also for experts that were never active.

    `share` is the fraction of the audited tokens for which the expert was active.
    """
    table = clustered_means(effects, ["delta_nll", "kl", "flip"], ["layer", "expert"])
    tokens = effects.groupby("layer")[["document", "position"]].apply(
        lambda f: len(f.drop_duplicates())
    )
    layers = sorted(int(x) for x in tokens.index)
    grid = pd.MultiIndex.from_tuples(
        [(layer, e) for layer in layers for e in range(experts_of[layer])],
        names=["layer", "expert"],
    )
    full = table.set_index(["layer", "expert"]).reindex(grid).reset_index()
    full["rows"] = full["rows"].fillna(0).astype("int64")
    full["documents"] = full["documents"].fillna(0).astype("int64")
    full["share"] = full["rows"] / full["layer"].map(tokens)
    return full


def depth(effects: Frame) -> Frame:
    """One row per layer: mean harm, KL, flip rate with intervals; share of removals that harm."""
    table = effects.assign(harmful=effects["delta_nll"] > 0)
    return clustered_means(table, ["delta_nll", "kl", "flip", "harmful"], ["layer"])


def spread(effects: Frame) -> Frame:
    """One row per layer: quantiles of the signed effect, and how concentrated the effects are.

    `top1` and `top10` are the shares of the layer's total |delta_nll| that the largest 1% and 10%
    of its removals carry.
    """
    rows = []
    for layer, group in effects.groupby("layer")["delta_nll"]:
        values = group.to_numpy(dtype="float64")
        size = np.sort(np.abs(values))[::-1]
        total = size.sum()
        shares = {
            name: size[: max(1, int(np.ceil(part * len(size))))].sum() / total if total else 0.0
            for name, part in (("top1", 0.01), ("top10", 0.10))
        }
        quantiles = dict(zip(QUANTILES, np.quantile(values, QUANTILES)))
        extremes = {"least": values.min(), "most": values.max()}
        rows.append({"layer": layer, "rows": len(values), **quantiles, **extremes, **shares})
    return pd.DataFrame(rows)


def by_domain(effects: Frame, tokens: Frame) -> Frame:
    """One row per (domain, layer): mean harm and KL with intervals."""
    domain = tokens.drop_duplicates("document").set_index("document")["domain"].astype(str)
    table = effects[["document", "layer", "delta_nll", "kl"]].assign(
        domain=effects["document"].map(domain)
    )
    return clustered_means(table, ["delta_nll", "kl"], ["domain", "layer"])


def token_effects(effects: Frame) -> Frame:
    """One row per (document, position): its mean harm over all removals, and the worst of them."""
    by = ["document", "position"]
    groups = effects.groupby(by)
    worst = effects.loc[groups["delta_nll"].idxmax()].set_index(by)
    table = groups.agg(
        harm=("delta_nll", "mean"),
        kl=("kl", "mean"),
        flips=("flip", "sum"),
        removals=("flip", "size"),
    )
    table["worst"] = worst["delta_nll"]
    table[["layer", "expert"]] = worst[["layer", "expert"]]
    return table.reset_index()
