"""The page of analyses/lab/zero_experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate, fixed

from ..pages import sheet_of
from .measure import ABOUT, KINDS

SAID = {
    "zero_share": "share of picks that fall on zero experts",
    "skips_all": "share of (token, layer) all of whose picks do",
    "experts_saved": "share of the routed experts' products saved",
    "model_saved": "share of all products saved",
    "cost, zero": "cost of zero experts, distilled (nats a token)",
    "cost, half": "cost of half the top-k, distilled",
    "zero_less_half": "the former less the latter",
    "cost, zero, untrained": "cost of zero experts before any training",
    "cost, half, untrained": "cost of half the top-k before any training",
    **{
        f"rho, {name}": f"rank correlation of skipping with: {words}"
        for name, words in ABOUT.items()
    },
}
SHARES = ("zero_share", "skips_all", "experts_saved", "model_saved")  # written without a sign


def sentences(tables: dict[str, pd.DataFrame], result: dict[str, Any]) -> list[str]:
    """The answers, each with its interval over seeds."""
    row = tables["arms"].iloc[0]
    said = (
        ["A run of the machinery (--quick): no number of it means anything."]
        if result["quick"]
        else []
    )

    def over(name: str) -> str:
        if name not in row or pd.isna(row[name]):
            return "not estimable"
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return (
            fixed(row[name], 3)
            if pd.isna(low)
            else estimate(row[name], low, high, name not in SHARES)
        )

    n = int(row["seeds"])
    said += [
        f"{over('zero_share')} of picks go to nobody (the group loss asks for {result['target_share']:.2f}), at a cost "
        f"of {over('cost, zero')} nats a token; half the top-k for every token, taught the same way, costs "
        f"{over('cost, half')} (zero experts less that: {over('zero_less_half')}); over {n} seed{'s' * (n != 1)}.",
        f"Within a document, the rank correlation of a token's skipping with the KL of removing one of its experts in "
        f"the original is {over('rho, kl')}, with the harm {over('rho, harm')}, with the entropy of the prediction "
        f"{over('rho, entropy')}.",
    ]
    return said


def write_page(path: Path, result: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Path:
    sheet = sheet_of("Zero experts", result)
    sheet.points(
        [
            f"{result['zero_experts']} parameter-free experts that put out zero are added to every router of a "
            "trained model; top-k stays, and what falls on them is lost to the sum. New rows of the router are "
            "drawn like the old.",
            "Two stages teach it, the frozen original being the teacher: cross-entropy on text that the original "
            "sampled, then the reverse KL on text that the student samples. The group loss is added in both.",
            "The census removes each active expert of the original at each token alone, exactly. Correlations are "
            "within a document, over its tokens; negative: the tokens that skip are those whose removals matter less.",
        ]
    )
    arms = tables["arms"].iloc[0]
    rows = [
        {
            "of": words,
            "name": name,
            "value": arms[name],
            "low": arms[f"{name}_low"],
            "high": arms[f"{name}_high"],
        }
        for name, words in SAID.items()
        if name in arms
    ]
    columns = [
        Column("of", lambda r: r["of"], text=True),
        Column("mean [95 %, over seeds]", lambda r: _limits(r)),
    ]
    reason = arms["reason"]
    sheet.table(
        table(rows, columns, f"Over {int(arms['seeds'])} seeds", [reason] if reason else [])
    )
    first = tables["shares"]["seed"].min()
    shares = tables["shares"][tables["shares"]["seed"] == first]
    by_layer = shares[shares["layer"] >= 0].rename(columns={"class": "series", "share": "value"})
    sheet.figure(
        profiles(
            by_layer[by_layer["tokens"] >= 20].assign(model=f"seed {first}"), key="zero-share",
            title="Who skips", unit="share of picks",
            caption="Share of picks that fall on zero experts, by layer and kind of token (kinds of 20 tokens or "
            "more); limits 95 %, by document.",
        )
    )  # fmt: skip
    links = tables["links"][tables["links"]["seed"] == first]
    links = links[links["layer"] >= 0].rename(columns={"about": "series", "rho": "value"})
    if len(links):
        sheet.figure(
            profiles(
                links.assign(model=f"seed {first}"), key="zero-link", title="Are they the harmless ones?",
                unit="rank correlation",
                caption="Within-document rank correlation of a token's skipped share with what the census of the "
                "original says of it, by layer; limits 95 %, by document. Below 0: who skips matters less.",
            )
        )  # fmt: skip
    columns = [
        Column("kind", lambda r: KINDS[r["kind"]], text=True),
        Column("seed", lambda r: r["seed"]),
        Column("nats a token", lambda r: estimate(r["nll"], r["nll_low"], r["nll_high"], False)),
        Column(
            "more than the original", lambda r: estimate(r["cost"], r["cost_low"], r["cost_high"])
        ),
    ]
    sheet.table(
        table(rows_of(tables["losses"]), columns, "Loss on held-out documents, 95 % by document")
    )
    return sheet.write(path)


def _limits(r: Any) -> str:
    if pd.isna(r["value"]):
        return "not estimable"
    if pd.isna(r["low"]):
        return fixed(r["value"], 4)
    return estimate(r["value"], r["low"], r["high"], r["name"] not in SHARES)
