"""What the lab's analyses share: their command line, a pool, texts, intervals over seeds, what they write."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.errors import MoeAuditError, RunError
from moeaudit.stats.clustered import over_seeds
from moeaudit.store.files import write_json
from moeaudit.text.choice import beginnings
from moeaudit.text.for_model import tokens_for


def options(
    description: str, out: str, documents: int, tokens: int, seeds: int | None = 3
) -> argparse.ArgumentParser:
    """The arguments that every analysis of the lab takes. `seeds` None: as many as the analysis's recipe says."""
    usual = "as its recipe says" if seeds is None else seeds
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder (default {out})")
    parser.add_argument("--pool", type=Path, default=None, help="folder of the lab's models")
    parser.add_argument(
        "--seeds", type=int, default=seeds, help=f"models of each arm (default {usual})"
    )
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


def started(name: str, run: Callable[[argparse.Namespace], None], given: argparse.Namespace) -> int:
    """Run an analysis; a clear refusal is printed and ends with status 2."""
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        run(given)
    except (MoeAuditError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def typed(name: str, given: argparse.Namespace) -> str:
    """The command that makes a page again."""
    return f"python -m analyses.lab.{name}" + (" --quick" if given.quick else "")


def require_agrees(check: Any) -> str:
    """What a verification says. Raises RunError where the census and plain forwards differ: nothing is written then."""
    if not check.agrees:
        raise RunError(
            f"The census does not agree with plain forwards, so nothing was written: {check}"
        )
    return repr(check)


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
    return (
        None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value
    )


def written(
    given: argparse.Namespace,
    result: dict[str, Any],
    tables: Mapping[str, pd.DataFrame],
    page: Callable[..., Path],
    told: Sequence[str] | None = None,
) -> None:
    """result.json, a CSV for each table, and the page; says what was found and where it is.

    `told` names the tables that result.json holds as well; None: all of them.
    """
    for name, table in tables.items():
        table.to_csv(given.out / f"{name}.csv", index=False, float_format="%.7g")
    held = {
        name: table.to_dict("records")
        for name, table in tables.items()
        if told is None or name in told
    }
    write_json(given.out / "result.json", clean({**result, "tables": held}))
    path = page(given.out / "index.html", result, tables)
    said = result.get("sentences") or [result["sentence"]]
    print("\n".join([*said, f"Wrote {path}"]))
