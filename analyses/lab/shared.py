"""What the lab's analyses share: a pool from the command line, texts, intervals over seeds, result.json."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.stats.clustered import Clustered
from moeaudit.store.files import write_json
from moeaudit.text.choice import beginnings
from moeaudit.text.for_model import tokens_for

ONE_SEED = "one seed: no interval over seeds"


def options(description: str, out: str, documents: int, tokens: int) -> argparse.ArgumentParser:
    """The arguments that every analysis of the lab takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder (default {out})")
    parser.add_argument("--pool", type=Path, default=None, help="folder of the lab's models")
    parser.add_argument("--seeds", type=int, default=3, help="models of each arm (default 3)")
    parser.add_argument(
        "--documents", type=int, default=documents, help=f"of each domain (default {documents})"
    )
    parser.add_argument(
        "--tokens", type=int, default=tokens, help=f"first ones of each document (default {tokens})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, two seeds, few texts: machinery alone"
    )
    return parser


def settled(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments, made small by --quick."""
    if given.quick:
        given.seeds, given.documents, given.tokens = 2, 1, 16
    return given


def pool_of(given: argparse.Namespace, arms: Sequence[str]) -> Any:
    """The trained models of these arms; what is missing is trained now."""
    folder = given.pool
    if folder is None and given.quick:
        folder = given.out / "pool"
    pool = lab.pool(arms, seeds=tuple(range(given.seeds)), folder=folder, quick=given.quick)
    for arm, seed in pool.missing:
        print(f"training {arm}, seed {seed}", flush=True)
        pool.get(arm, seed)
    return pool


def texts(model: ma.Model, documents: int, tokens: int) -> Any:
    """The first tokens of some test documents of each domain, the same for every model."""
    corpus = ma.corpus("bundled", split="test").sample(documents, seed=0, per_domain=True)
    return beginnings(tokens_for(model, corpus), tokens)[0]


def over_seeds(frame: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Mean of each value over seeds with Student's 95 % limits; one row a model. `reason` where there are none."""
    if len(frame.groupby([*by, "seed"])) != len(frame):
        raise ValueError("one row for each seed was expected")
    found = Clustered(list(by), list(values), cluster="seed")(frame)
    found = found.rename(columns={"documents": "seeds"}).drop(columns="rows")
    few = found["seeds"] < 2
    return found.assign(reason=np.where(few, ONE_SEED, None))


def against(frame: pd.DataFrame, base: str, value: str = "nll") -> pd.DataFrame:
    """Difference of each arm from `base` at the same seed, with limits over seeds."""
    wide = frame.pivot(index="seed", columns="arm", values=value)
    rows = [
        {
            "arm": arm,
            "against": base,
            "seed": seed,
            "difference": wide.loc[seed, arm] - wide.loc[seed, base],
        }
        for arm in wide.columns
        if arm != base
        for seed in wide.index
    ]
    return over_seeds(pd.DataFrame(rows), ["arm", "against"], ["difference"])


def clean(value: Any) -> Any:
    """Plain JSON: a number that is not there is null."""
    if isinstance(value, dict):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_result(out: Path, result: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    """result.json and a CSV for each table."""
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.7g")
    told = {name: table.to_dict("records") for name, table in tables.items()}
    write_json(out / "result.json", clean({**result, "tables": told}))
