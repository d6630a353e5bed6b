"""The page of analyses/lab/expert_tying: the answer, losses, sites against banks, agreement, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.report.pages.sheet import Sheet
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import count, percent

from ..pages import Tables, change, losses, of, said, sheet_of

LIMITS = [
    "Models of one to two million parameters and under a million tokens say nothing of the paper's claims at 7 billion "
    "parameters, its downstream tasks or its memory footprint in use; they say whether the mechanism works and which "
    "way the costs lie where everything else is equal.",
    "The paper ties inside 16 to 28 layers; here four of six layers are tied, in pairs.",
    "Intervals are over seeds of training (Student's t); documents are the same for all.",
    "Bank and site removals are of one token; an expert's absence from all tokens is Without(..., rule='zero').",
]


def sentence(tables: Tables, *, quick: bool) -> str:
    """The finding in one sentence."""
    differences, arms = tables["differences"], tables["arms"]
    tied, whole = (of(arms, arm=a)["expert_parameters"] for a in ("olmoe-tied", "olmoe"))
    cost = change(of(differences, arm="olmoe-tied", against="olmoe"), "difference")
    equal = change(of(differences, arm="olmoe-tied-wide", against="olmoe"), "difference")
    seeds = int(of(arms, arm="olmoe")["seeds"])
    start = "A try-out that means nothing: tying" if quick else "Tying"
    return (
        f"{start} two pairs of layers leaves {percent(tied / whole, 0)} of the expert parameters and changes the "
        f"held-out loss by {cost} nats a token; at equal unique parameters the tied model is {equal} nats from the "
        f"untied one (95 %, {seeds} seeds)."
    )


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    """One self-contained page without scripts."""
    sheet = sheet_of("Expert Tying", result)
    caption = "Mean of the domains, limits over seeds of training."
    sheet.figure(losses(tables["arms"], "Held-out loss by arm", caption))
    sheet.table(
        table(
            rows_of(tables["arms"]),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("seeds", lambda r: r["seeds"]),
                Column("loss (nats)", lambda r: said(r, "nll")),
                Column("unique parameters", lambda r: count(r["unique"])),
                Column("of experts", lambda r: count(r["expert_parameters"])),
                Column("bytes on disk", lambda r: count(r["bytes"])),
            ],
            "Arms: the same tokens in the same order for a seed",
        )
    )
    sheet.table(
        table(
            rows_of(tables["differences"]),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("less", lambda r: r["against"], text=True),
                Column("difference of the loss (nats)", lambda r: change(r, "difference")),
            ],
            "Differences at the same seed",
            [
                "olmoe-tied-wide has exactly the expert parameters of olmoe, olmoe-half fewer than olmoe-tied."
            ],
        )
    )
    _sites(sheet, tables["additivity"])
    _choices(sheet, tables["agreement"])
    after = of(tables["merged_after_training"], arm="olmoe")
    sheet.heading("Merging trained layers is another thing")
    sheet.paragraph(
        "The same layers of the untied model, trained apart and then made to share the mean of their experts: "
        f"{change(after, 'post_hoc_mean')} nats a token; the first layer's experts: "
        f"{change(after, 'post_hoc_leader')}. This is post-hoc tying, an edit, and not Expert Tying."
    )
    sheet.heading("Limits")
    sheet.points([*LIMITS, f"Verified by plain forwards: {result['verified'][0]}"])
    return sheet.write(path)


def _sites(sheet: Sheet, additivity: pd.DataFrame) -> None:
    sheet.heading("One site and the whole bank")
    sheet.paragraph(
        "An expert is removed for one token: in one layer, or in every layer of its bank. The gap is the bank's effect "
        "less the sum of the sites'. With one site the token used the expert once, and a gap comes from going to it at "
        "a later site because of the loss. In olmoe the same layers are named and share nothing: experts of equal "
        "number, the placebo."
    )
    sheet.table(
        table(
            rows_of(additivity),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("sites that use it", lambda r: r["sites"], text=True),
                Column("share of removals", lambda r: percent(r["share"])),
                Column("bank", lambda r: change(r, "whole")),
                Column("sum of sites", lambda r: change(r, "sum")),
                Column("gap", lambda r: change(r, "gap")),
            ],
            "Mean harm of a removal, nats",
        )
    )


def _choices(sheet: Sheet, agreement: pd.DataFrame) -> None:
    chances = ", ".join(f"{r['arm']} {r['jaccard_chance']:.3f}" for r in rows_of(agreement))
    sheet.heading("Do the sites choose the same experts?")
    sheet.paragraph(
        "Both published definitions, and two inputs: the state that each site really sees, and the first site's for "
        "all, which is no agreement of choices but likeness of routers."
    )
    names = {
        "jaccard": "Jaccard of the chosen sets",
        "distinct": "1 less normalised distinct picks",
        "top_1": "same first choice",
    }
    rows = [{**row, "measure": name} for row in rows_of(agreement) for name in names]
    sheet.table(
        table(
            rows,
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("measure", lambda r: names[r["measure"]], text=True),
                Column("on its way", lambda r: said(r, r["measure"])),
                Column("same input", lambda r: said(r, f"{r['measure']}_same_input")),
                Column("gap", lambda r: change(r, f"{r['measure']}_gap")),
            ],
            "Agreement of two layers' choices",
            [f"Jaccard by chance: {chances}."],
        )
    )
    sheet.table(
        table(
            rows_of(agreement),
            [
                Column("arm", lambda r: r["arm"], text=True),
                Column("experts no site chooses", lambda r: percent(r["dead_in_bank"])),
                Column(
                    "experts a single layer does not choose", lambda r: percent(r["idle_at_site"])
                ),
            ],
            "Load of banks, means over seeds",
        )
    )
