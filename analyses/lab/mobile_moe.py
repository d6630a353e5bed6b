"""MobileMoE: what a model takes, which experts a prompt touches, and what a coarse router costs.

    python -m analyses.lab.mobile_moe [--quick] [--out FOLDER] [--pool DIR] [--arms NAME ...] [--seeds 3]

Accounts of published configurations (memory, cache, operations) and whether a phone holds them; for the bundled models
and the lab's, the experts touched by the first T tokens of a text against independent choices and against random
tokens (the paper: 1.2 to 2.1 times); routers in bfloat16 and int8: changed selections and what they cost; the scaling
law recovered from planted losses. Writes tables (CSV), figures, index.html and result.json. About twenty minutes on
two cores with a pool that is trained; `--quick` one bundled model and no pool, under two minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.lab.scaling import PUBLISHED
from moeaudit.models.accounting.known import KNOWN
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate

from .pages import Tables, sheet_of
from .shared import options, over_seeds, pool_of, settled, started, texts, typed, written

PHONE = 5e9  # bytes that the paper's account takes for weights and cache
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


def accounts(tokens: int = 8192) -> pd.DataFrame:
    """One row a published configuration: what it takes in 16 and 4 bits, with a cache of `tokens` tokens in 8."""
    rows = []
    for repo in KNOWN:
        account = ma.accounting(repo)
        whole, four = (account.memory(tokens, bits, 8) for bits in (16, 4))
        rows.append(
            {
                "model": repo,
                "total": account.total,
                "active": account.active_published,
                "cache_a_token": account.cached,
                "gb_16": whole / 1e9,
                "gb_4": four / 1e9,
                "fits_in_5_gb": four <= PHONE,
                "gflop_a_token": account.flops(tokens) / tokens / 1e9,
            }
        )
    return pd.DataFrame(rows)


def random_like(model: ma.Model, read: Any, seed: int = 0) -> list[np.ndarray]:
    """Random tokens in pieces of the same lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, model.vocab_size, len(chunk.ids)) for chunk in read.chunks]


def measured(
    model: ma.Model, arm: str, seed: int | None, read: Any, tokens: int
) -> dict[str, pd.DataFrame]:
    """Working sets and router precision of one model."""
    named = {"arm": arm, "seed": seed}
    lengths = [n for n in (8, 16, 32, 64, 128) if n < tokens]
    real = ma.capture(model, read, progress=False)
    noise = ma.capture(model, random_like(model, read), progress=False)
    working = ma.working_set(real, lengths, beside=noise)
    rounding = ma.router_precision(model, read, ["bfloat16", "int8"], progress=False)
    return {
        "working": working.assign(**named),
        "selections": rounding.selections.assign(**named),
        "cost": rounding.cost.assign(**named),
    }


def planted(noise: float = 0.003) -> pd.DataFrame:
    """The law fitted to losses made from the published coefficients, with noise of what a training has."""
    grid = [
        (n, d, e) for n in (0.3, 0.5, 0.9) for d in (100, 250, 500) for e in (1, 2, 4, 8, 16, 32)
    ]
    points = pd.DataFrame(grid, columns=["active", "tokens", "experts"], dtype=float)
    drawn = np.random.default_rng(0).normal(0, noise, len(points))
    fit = lab.fit_law(
        points.assign(loss=PUBLISHED(*points.to_numpy().T) + drawn), n_boot=100, starts=3
    )
    return fit.coefficients.assign(planted=PUBLISHED.vector, rmse=fit.rmse)


def sentence(tables: dict[str, pd.DataFrame], *, quick: bool) -> str:
    longest = tables["working"][tables["working"]["length"] == tables["working"]["length"].max()]
    bundled = longest.groupby("arm")[["ratio", "over_independent"]].mean()
    whole = (
        tables["cost"][tables["cost"]["tokens"] == "all"].groupby("precision")["delta_nll"].mean()
    )
    moved = tables["selections"].groupby("precision")["changed"].mean()
    start = "A try-out on one model: t" if quick else "T"
    return (
        f"{start}he first {int(longest['length'].iloc[0])} tokens of a text touch {bundled['ratio'].min():.2f} to "
        f"{bundled['ratio'].max():.2f} times the experts that random tokens touch (MobileMoE: 1.2 to 2.1) and "
        f"{bundled['over_independent'].min():.2f} to {bundled['over_independent'].max():.2f} of what independent "
        f"choices would; a router in int8 changes {moved['int8']:.1%} of selections and the loss by "
        f"{whole['int8']:+.1e} nats a token, one in bfloat16 {moved['bfloat16']:.1%} and {whole['bfloat16']:+.1e} "
        f"({len(bundled)} models or arms)."
    )


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


def main(argv: list[str] | None = None) -> int:
    parser = options(
        (__doc__ or "").split("\n")[0], "reports/lab/mobile-moe", documents=6, tokens=129
    )
    parser.add_argument(
        "--arms", nargs="*", default=["olmoe", "olmoe-fine", "olmoe-coarse", "qwen2-moe"]
    )
    return started("mobile_moe", run, settled(parser.parse_args(argv)))


def run(given: argparse.Namespace) -> None:
    found: list[dict[str, pd.DataFrame]] = []
    for name in ma.bundled_models()[: 1 if given.quick else None]:
        model = ma.load(name)
        found.append(
            measured(model, name, None, texts(model, given.documents, given.tokens), given.tokens)
        )
        print(f"{name}: measured", flush=True)
    if not given.quick:
        pool = pool_of(given, given.arms)
        for arm in given.arms:
            for seed in range(given.seeds):
                model = ma.load(pool.get(arm, seed))
                read = texts(model, given.documents, given.tokens)
                found.append(measured(model, arm, seed, read, given.tokens))
            print(f"{arm}: measured", flush=True)
    tables = {
        name: pd.concat([each[name] for each in found], ignore_index=True) for name in found[0]
    }
    if not given.quick:
        arms = tables["working"].dropna(subset=["seed"])
        by_model = arms.groupby(["arm", "seed", "length"], as_index=False)[
            ["ratio", "over_independent"]
        ].mean()
        tables["over_seeds"] = pd.concat(
            [
                over_seeds(part, ["arm"], ["ratio", "over_independent"]).assign(length=length)
                for length, part in by_model.groupby("length")
            ],
            ignore_index=True,
        )
    tables |= {"accounts": accounts(), "law": planted()}
    result = {
        "sentence": sentence(tables, quick=given.quick),
        "command": typed("mobile_moe", given),
        "quick": given.quick,
        "seeds": given.seeds,
    }
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
