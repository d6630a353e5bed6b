"""The numbers of the three bundled models, written down and compared bit for bit.

    python benchmarks/reference.py write FOLDER      # effects, tests and calibration tables
    python benchmarks/reference.py compare A B       # exit 1 where any value differs

A move in the code must not move a number. Everything is seeded and small: a few documents, every
operator, both paths, horizons, the first-order screen, a pruning curve, and a whole audit with its
statistics. Bits depend on the processor and on torch, so both folders come from one machine; about two
minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: sums must not depend on threads

import moeaudit as ma
from moeaudit.text.for_model import first_tokens

MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2")
SHARED = {"shared_gate": ("tiny-qwen2-moe",), "shared_expert": MODELS[1:]}


def texts(model: ma.Model, split: str, documents: int, tokens: int) -> list[np.ndarray]:
    """The first tokens of some bundled documents."""
    docs = ma.corpus("bundled", split=split).sample(documents, seed=0, per_domain=False)
    return first_tokens(model, docs, tokens)


def halve(routing: Any) -> Any:
    """An operator of one's own: the first slot's weight is halved."""
    weight = routing.weight.clone()
    weight[:, 0] /= 2
    return routing.index, weight


def operators(model: ma.Model, outputs: Any) -> dict[str, Any]:
    """Every operator that the model has a use for."""
    # The names of before 0.1 as well, so that the script can be run on the code to compare with.
    everywhere = getattr(ma, "Everywhere", None) or ma.Sequence
    without = getattr(ma, "Without", None) or ma.Experts
    layer = model.anatomy.layers[0]
    every = {
        "zero": ma.Zero(),
        "renormalize_sum": ma.Renormalize("sum"),
        "renormalize_one": ma.Renormalize("one"),
        "swap3": ma.Swap(3),
        "reroute": ma.Reroute(),
        "skip": ma.Skip(),
        "mean_output": ma.MeanOutput(outputs),
        "resample": ma.Resample(outputs, seed=0),
        "pairs": ma.Coalitions((1, 2)),
        "ends": ma.Coalitions((1, layer.top_k)),
        "permutations": ma.Permutations(4, seed=1),
        "custom": ma.Custom(halve, name="half"),
        "everywhere": everywhere(ma.Zero()),
        "everywhere_expert": everywhere(ma.Zero(), by="expert"),
        "without_zero": without({layer.index: [0, 3]}, rule="zero"),
        "without_reroute": without({layer.index: [0, 3]}),
        "shared_gate": ma.SharedGate(0.5),
        "shared_expert": ma.SharedExpert(),
    }
    return {name: op for name, op in every.items() if model.name in SHARED.get(name, MODELS)}


def tables(name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Everything that is frozen of one model, as (name, table)."""
    model = ma.load(name)
    short, other = texts(model, "test", 3, 24), texts(model, "calibration", 4, 48)
    kept = {}
    for label, operator in operators(model, ma.expert_outputs(model, other, seed=0)).items():
        kept[label] = ma.ablate(model, short, operator)
        yield f"effects.{label}", kept[label]
    one = [model.anatomy.indices[-2]]
    yield "effects.swap_all", ma.ablate(model, [short[0][:8]], ma.Swap("all"), layers=one)
    extra = ["delta_entropy", "delta_confidence", "delta_brier", ma.LogitContrast(5, 9)]
    yield "effects.outcomes", ma.ablate(model, short, outcomes=extra)
    yield "effects.horizon", ma.ablate(model, short, horizon=4)
    yield "effects.horizon_all", ma.ablate(model, short[:1], horizon="all")
    yield "effects.frozen", ma.ablate(model, short, frozen_routing=True)
    yield "effects.decompose", ma.decompose(model, short[:2], horizon=2)
    yield "sets.interactions", ma.interactions(kept["pairs"])
    yield "sets.redundancy", ma.redundancy(kept["ends"])
    yield "sets.shapley", ma.shapley(kept["permutations"])
    found = ma.screen(model, short)
    for part in ("table", "exact", "agreement"):
        yield f"screen.{part}", getattr(found, part)
    evaluated, measured = texts(model, "test", 12, 32), texts(model, "calibration", 6, 32)
    curve = ma.prune_curve(model, evaluated, None, [0.5], calibration=measured, draws=4, seed=0)
    yield "prune.table", curve.table
    yield "prune.pairs", curve.pairs()
    yield "prune.scores", curve.scores
    with tempfile.TemporaryDirectory() as folder:
        run = ma.audit(name, out=Path(folder) / "run", documents=16, tokens=32, verify_rows=2)
        for part in ("tokens", "experts", "tests", "effects", "routing"):
            yield f"audit.{part}", getattr(run, part)
    home = ma.corpus("bundled", split="test").sample(36, seed=1, per_domain=False)
    away = ma.corpus("bundled", split="shift").sample(14, seed=1, per_domain=False)
    edits = [{model.anatomy.indices[0]: [0, 3]}]
    told = ma.calibration_audit(model, home, away, edits, tokens=32, draws=100)
    for part, table in told.tables.items():
        yield f"calibration.{part}", table


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Columns as they are stored: categories as text, no index, no metadata."""
    out = {}
    for name in table.columns:
        column = table[name]
        categories = isinstance(column.dtype, pd.CategoricalDtype)
        out[name] = (column.astype(str) if categories else column).to_numpy()
    return pd.DataFrame(out)


def write(out: Path) -> None:
    """All tables of all models as Parquet files in a new folder."""
    out.mkdir(parents=True)
    for name in MODELS:
        for what, table in tables(name):
            path = out / f"{name}.{what}.parquet"
            plain(table).to_parquet(path, index=False, compression="zstd")
            sys.stderr.write(f"{name} {what} {len(table)}\n")


def differs(a: Any, b: Any) -> str | None:
    """How two columns differ, if they do; NaN equals NaN, and a null equals a null."""
    if a.dtype.kind == "f" and b.dtype.kind == "f":
        x, y = a.to_numpy(), b.to_numpy()
        unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
        if not unequal.any():
            return None if a.dtype == b.dtype else f"is {a.dtype} and {b.dtype}"
        gap = np.abs(x[unequal].astype(float) - y[unequal].astype(float))
        return f"differs in {int(unequal.sum())} of {len(x)} rows, at most by {np.max(gap):.3g}"
    x, y = (s.astype(object).where(s.notna(), None) for s in (a, b))
    unequal = ~((x == y) | (a.isna() & b.isna()))
    return f"differs in {int(unequal.sum())} of {len(a)} rows" if unequal.any() else None


def compared(a: Path, b: Path) -> tuple[list[str], int, int]:
    """Every difference in words, and the number of tables and values that were compared."""
    left, right = ({p.name for p in f.glob("*.parquet")} for f in (a, b))
    wrong = [f"{name}: only in {a if name in left else b}" for name in sorted(left ^ right)]
    values = 0
    for name in sorted(left & right):
        x, y = pd.read_parquet(a / name), pd.read_parquet(b / name)
        wrong += [
            f"{name}: the column {c} is only in {a if c in x else b}"
            for c in sorted(set(x.columns) ^ set(y.columns))
        ]
        if len(x) != len(y):
            wrong.append(f"{name}: {len(x)} rows against {len(y)}")
            continue
        for column in (c for c in x.columns if c in y.columns):
            values += len(x)
            how = differs(x[column], y[column])
            wrong += [f"{name}: {column} {how}"] if how else []
    return wrong, len(left & right), values


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("write", help="write the tables into a new folder")
    one.add_argument("folder", type=Path)
    two = commands.add_parser("compare", help="compare two folders; exit 1 on any difference")
    two.add_argument("a", type=Path)
    two.add_argument("b", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "write":
        write(given.folder)
        return 0
    wrong, tables_compared, values = compared(given.a, given.b)
    summary = f"{tables_compared} tables, {values} values compared, {len(wrong)} differences"
    sys.stdout.write("\n".join([*wrong, summary]) + "\n")
    return 1 if wrong or not tables_compared else 0


if __name__ == "__main__":
    sys.exit(main())
