"""MobileMoE: what a model takes, which experts a prompt touches, and what a coarse router costs.

    python -m analyses.lab.mobile_moe [--quick] [--out FOLDER] [--pool DIR] [--arms NAME ...] [--seeds 3]

Accounts of published configurations (memory, cache, operations) and whether a phone holds them; for the bundled models
and the lab's, the experts touched by the first T tokens of a text against independent choices and against random
tokens (the paper: 1.2 to 2.1 times); routers in bfloat16 and int8: changed selections and what they cost; the scaling
law recovered from planted losses. Writes tables (CSV), figures, index.html and result.json. About two minutes
with a pool that is trained; `--quick` one bundled model and no pool, under two minutes.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.lab.scaling import PUBLISHED
from moeaudit.models.accounting.known import KNOWN

from ..shared import options, over_seeds, pool_of, settled, started, texts, typed, written
from .page import sentences, write_page

RATIOS = ["ratio", "over_independent"]
PHONE = 5e9  # bytes that the paper's account takes for weights and cache


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


def over(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Limits over seeds of the lab's arms: working sets by length and rounded routers, means over layers."""
    trained = {name: table.dropna(subset=["seed"]) for name, table in tables.items()}
    by = ["arm", "seed"]
    working = trained["working"].groupby([*by, "length"], as_index=False)[RATIOS].mean()
    changed = trained["selections"].groupby([*by, "precision"], as_index=False)["changed"].mean()
    cost = trained["cost"].query("tokens == 'all'")[[*by, "precision", "delta_nll"]]
    rounded = changed.merge(cost, on=[*by, "precision"], validate="1:1")
    return {
        "over_seeds": over_seeds(working, ["arm", "length"], RATIOS),
        "routers_over_seeds": over_seeds(rounded, ["arm", "precision"], ["changed", "delta_nll"]),
    }


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
        tables |= over(tables)
    tables |= {"accounts": accounts(), "law": planted()}
    result = {
        "sentences": sentences(tables, quick=given.quick),
        "command": typed("mobile_moe", given),
        "quick": given.quick,
        "seeds": given.seeds,
    }
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
