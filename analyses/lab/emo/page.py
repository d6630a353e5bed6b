"""The page of analyses/lab/emo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate, fixed

from ..pages import change, of, sheet_of
from .measure import ONE, OWN, RANDOM

COMPARED = {
    "nll": "loss of the whole model, nats",
    "slope_router_mean": "cost of a halving, kept by router mean, nats",
    "slope_router_mean_greedy": "cost of a halving, kept by router mean layer after layer, nats",
    "slope_easy_ep": "cost of a halving, kept by EASY-EP, nats",
    "slope_causal_harm": "cost of a halving, kept by causal harm, nats",
    "slope_random": "cost of a halving, kept at random, nats",
    "slope_router_mean_less_random": "cost of a halving, router mean less random, nats",
    "quarter_router_mean": "cost of keeping 25 % by router mean, nats",
    "pool_own": "cost of documents' own pools of middle size, nats",
    "pool_own_less_random": "the same less that of random pools, nats",
    "pool_own_less_one": "the same less that of one pool for all documents, nats",
    "topic_cosine": "cosine between domains",
    "topic_cosine_less_null": "cosine between domains, less its null",
    "coverage": "experts above 1/E in a domain",
    "coverage_less_null": "the same less its null",
    "entropy": "bits of a document's selections",
    "entropy_less_null": "the same less its null",
    "cluster_information": "nats that a token's cluster says of the domain",
    "cluster_information_less_null": "the same less its null",
}


def sentences(tables: dict[str, pd.DataFrame], model: str, *, quick: bool) -> list[str]:
    """The answers, each with its interval."""
    answers = ["A run of the machinery (--quick): no number of it means anything."] if quick else []
    if "differences" in tables:
        answers += _trained(tables["arms"], tables["differences"])
    here = tables["pools"][tables["pools"]["model"] == model]
    if len(here):
        size = sorted(here["size"].unique())[len(here["size"].unique()) // 2]
        at = here[here["size"] == size].set_index("series")
        words = "; ".join(
            f"{name} {estimate(at.loc[name, 'value'], at.loc[name, 'low'], at.loc[name, 'high'])}"
            for name in (OWN, ONE, RANDOM)
        )
        answers.append(
            f"In {model}, pools of {size} experts cost, nats a token with 95 % limits by document: {words}."
        )
    return answers


def _trained(arms: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """EMO against its twin, over seeds."""

    def less(name: str) -> str:
        return change(of(differences, of=name), "difference")

    emo, standard = (of(arms, arm=arm) for arm in ("olmoe-emo", "olmoe"))
    slope = "slope_router_mean"
    return [
        f"Trained within document pools, a model loses {change(emo, slope)} nats a token with each halving of its "
        f"experts, kept by router mean; its twin trained without, {change(standard, slope)}: {less(slope)} (95 %, "
        f"{int(emo['seeds'])} seeds).",
        f"Experts kept at random instead: {less('slope_random')}; so of the choice by the router alone: "
        f"{less(f'{slope}_less_random')}.",
        f"With all experts the model trained within pools has a held-out loss {less('nll')} nats from its twin's; the "
        f"cosine between domains, each less its null, differs by {less('topic_cosine_less_null')}.",
    ]


def write_page(path: Path, result: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Path:
    sheet = sheet_of("EMO: experts by document", result)
    worst = max(result["largest_change_by_a_pool_of_all_experts"].values())
    sheet.points(
        [
            "A pool is the d experts of the largest mean router probability over a document's tokens, made in every "
            "layer with the masks below in force; other logits go to minus infinity and the model's own rule chooses. "
            "The whole document decides, later tokens too.",
            f"A pool of all experts changed no token's loss by more than {worst:.1e} nats in {len(result['verified'])} "
            "models; pools of half the experts agree with plain forwards made another way.",
            "Random pools have the same size and are drawn for each document and layer. One pool for all documents is "
            "the router's mean over other documents: what pruning by router mean leaves.",
            *(result["notes"]),
        ]
    )
    pools = tables["pools"]
    arms = pools if (pools["seed"] < 0).all() else pools[pools["seed"] <= 0]
    sheet.figure(
        profiles(
            arms, key="emo-pools", title="What pools cost", unit="nats", along="size",
            caption="Change of the loss when every document may use d experts of each layer; limits 95 %, by document. "
            "Trained arms: seed 0.", order=[OWN, ONE, RANDOM],
        )
    )  # fmt: skip
    kept = tables["retention"]
    kept = kept if (kept["seed"] < 0).all() else kept[kept["seed"] <= 0]
    sheet.figure(
        profiles(
            kept, key="emo-retention", title="What keeping fewer experts costs", unit="nats", along="keep",
            caption="Loss against the share of experts kept in every layer. Limits 95 %: of criteria by document, of "
            "random choices the central range of the draws. Trained arms: seed 0.",
        )
    )  # fmt: skip
    if "differences" in tables:
        sheet.heading("EMO less standard, at the same seed")
        rows = tables["differences"]
        rows = rows[rows["of"].isin(COMPARED)]
        columns = [
            Column("of", lambda r: COMPARED[r["of"]], text=True),
            Column("difference [95 %, over seeds]", lambda r: _limits(r, "difference")),
            Column("seeds", lambda r: int(r["seeds"])),
            Column("no interval because", lambda r: r["reason"] or "", text=True),
        ]
        sheet.table(table(rows_of(rows), columns, "Differences of olmoe-emo from olmoe"))
        arms_ = tables["arms"].melt(id_vars=["arm", "seeds"])
        columns = [
            Column("of", lambda r: COMPARED[r["variable"]], text=True),
            Column("arm", lambda r: r["arm"], text=True),
            Column("mean over seeds", lambda r: fixed(float(r["value"]), 4)),
        ]
        rows = arms_[arms_["variable"].isin(COMPARED)]
        sheet.table(table(rows_of(rows), columns, "Arms"))
    sheet.heading("Scores of modularity, each with its null")
    columns = [
        Column("model", lambda r: r["model"], text=True),
        Column("score", lambda r: r["score"], text=True),
        Column("layer", lambda r: "all" if r["layer"] < 0 else r["layer"]),
        Column("value", lambda r: fixed(r["value"], 4)),
        Column("null [95 %]", lambda r: estimate(r["null_mean"], r["null_low"], r["null_high"])),
        Column("p", lambda r: fixed(r["p"], 3)),
    ]
    sheet.table(
        table(
            rows_of(tables["modularity"]),
            columns,
            "Null: documents trade domains (entropy: tokens trade documents)",
        )
    )
    return sheet.write(path)


def _limits(r: Any, name: str) -> str:
    low, high = r[f"{name}_low"], r[f"{name}_high"]
    return fixed(r[name], 4, sign=True) if pd.isna(low) else estimate(r[name], low, high)
