"""The page of analyses/lab/mobile_moe: the answers, working sets, coarse routers, accounts, the law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate

from ..pages import Tables, change, of, said, sheet_of

ARM, LENGTH = "olmoe", 32  # at more tokens small models touch all experts, whatever they read
LIMITS = [
    "MobileMoE's own weights were not run: they are no class of transformers 5.23, and the suite loads no code of a "
    "checkpoint.",
    "Working sets are counted in experts of models of under ten million parameters. Bytes that move on a phone, and "
    "its time, were not measured.",
    "The bundled models read the bundled text with a tokenizer made for it; random tokens are drawn evenly from the "
    "vocabulary, which is one of several ways to make a prompt that says nothing.",
    "Rounded routers are simulated: scores of rounded inputs and weights, products summed in float32 (bfloat16) or "
    "exactly (int8). Kernels of a device may sum otherwise.",
    "The law's form and coefficients come from a third party's account; no losses of the paper were fitted.",
]


def sentences(tables: Tables, *, quick: bool) -> list[str]:
    """The answers: over seeds where recipes were trained more than once."""
    if quick:
        row = tables["working"].iloc[0]
        return [
            f"A try-out on one model: in layer {row['layer']} the first {row['length']} tokens of a text touch "
            f"{row['ratio']:.2f} times the experts that random tokens touch."
        ]
    at = tables["over_seeds"][tables["over_seeds"]["length"] == LENGTH]
    base, routers = of(at, arm=ARM), tables["routers_over_seeds"]

    def router(precision: str) -> str:
        row = of(routers, arm=ARM, precision=precision)
        cost = change(row, "delta_nll")
        return f"in {precision} {said(row, 'changed')} of selections and the loss by {cost} nats a token"

    arms = f"{len(at)} arms {at['ratio'].min():.2f} to {at['ratio'].max():.2f}"
    return [
        f"The first {LENGTH} tokens of a text touch {said(base, 'ratio')} times the experts that random tokens touch, "
        f"in {ARM} (95 %, {int(base['seeds'])} seeds; {arms}), and {said(base, 'over_independent')} of what "
        "independent choices would; MobileMoE reports 1.2 to 2.1 times the memory.",
        f"A rounded router changes, in {ARM}, {router('bfloat16')}; {router('int8')}.",
    ]


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    sheet = sheet_of("MobileMoE", result)
    working = tables["working"]
    drawn = working.groupby(["arm", "length"], sort=False, as_index=False)[["ratio"]].mean()
    none = drawn.assign(ratio_low=float("nan"), ratio_high=float("nan"))
    seeds = tables.get("over_seeds")  # a bundled model was trained once: no limits of that kind
    if seeds is not None:
        alone = none[~none["arm"].isin(seeds["arm"])]
        drawn = pd.concat([alone, seeds[none.columns]], ignore_index=True)
    else:
        drawn = none
    sheet.figure(
        profiles(
            drawn.rename(columns={"ratio": "value", "ratio_low": "low", "ratio_high": "high"}).assign(panel="layers"),
            key="working", title="Experts touched, text over random tokens", unit="ratio", panel="panel", series="arm",
            along="length", zero=False,
            caption="Means over layers by number of tokens read; bars: limits over seeds, where a recipe was trained "
            "more than once. Above 1 text touches more experts than noise.",
        )
    )  # fmt: skip
    sheet.heading("What coarse routers cost")
    sheet.table(
        table(
            rows_of(tables["cost"]),
            [
                Column("model", lambda r: r["arm"], text=True),
                Column("seed", lambda r: "" if pd.isna(r["seed"]) else int(r["seed"])),
                Column("router", lambda r: r["precision"], text=True),
                Column("tokens", lambda r: r["tokens"], text=True),
                Column("rows", lambda r: f"{r['rows']:,}"),
                Column(
                    "delta NLL, nats",
                    lambda r: estimate(
                        r["delta_nll"], r["delta_nll_low"], r["delta_nll_high"], True
                    ),
                ),
            ],
            "Change of the loss with routers in another precision, by whether a selection changed",
        )
    )
    if "routers_over_seeds" in tables:
        sheet.table(
            table(
                rows_of(tables["routers_over_seeds"]),
                [
                    Column("arm", lambda r: r["arm"], text=True),
                    Column("router", lambda r: r["precision"], text=True),
                    Column("seeds", lambda r: r["seeds"]),
                    Column("selections changed", lambda r: said(r, "changed")),
                    Column("delta NLL, nats", lambda r: change(r, "delta_nll")),
                ],
                "The lab's arms, limits over seeds",
            )
        )
    sheet.heading("Accounts of published configurations")
    sheet.paragraph(
        "Weights in 16 or 4 bits with a cache of 8,192 tokens in 8 bits; 5 GB is what the paper reckons with."
    )
    sheet.table(
        table(
            rows_of(tables["accounts"]),
            [
                Column("model", lambda r: r["model"], text=True),
                Column("total", lambda r: f"{r['total'] / 1e9:.2f} B"),
                Column("active", lambda r: f"{r['active'] / 1e9:.2f} B"),
                Column("cache a token", lambda r: f"{r['cache_a_token']:,}"),
                Column("16 bits", lambda r: f"{r['gb_16']:.1f} GB"),
                Column("4 bits", lambda r: f"{r['gb_4']:.1f} GB"),
                Column("GFLOP a token", lambda r: f"{r['gflop_a_token']:.2f}"),
            ],
            "Memory, cache and operations from configurations",
        )
    )
    sheet.heading("The law, recovered from planted losses")
    sheet.table(
        table(
            rows_of(tables["law"]),
            [
                Column("coefficient", lambda r: r["coefficient"], text=True),
                Column("planted", lambda r: f"{r['planted']:.4f}"),
                Column("fitted", lambda r: estimate(r["value"], r["low"], r["high"])),
            ],
            "Coefficients planted and fitted",
        )
    )
    sheet.heading("What this cannot say")
    sheet.points(LIMITS)
    return sheet.write(path)
