"""Complete-muE: does the best learning rate stay when a dense model becomes sparse, or a small one larger?

    python -m analyses.lab.complete_mue [--quick] [--out FOLDER] [--seeds 3] [--steps 120]

Small OLMoE models under AdamW, once with Complete-muE's multipliers and once without: a coordinate check over the
active experts a, the experts N and the width d (10 steps, slopes of the size of activations and updates), and a sweep
of the learning rate for a dense model, two sparse ones and a wider one; then the multipliers that published models
would have, beside what the bundled checkpoints have. Writes tables (CSV), figures, index.html and result.json. Most of
an hour on two cores; `--quick` a few steps of the smallest models, under two minutes: machinery alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.models.accounting.known import KNOWN
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate

from .pages import Tables, sheet_of
from .shared import started, typed, written

RATE = 0.004  # of every parameter under AdamW, at the factor 1
LIMITS = [
    "Models of a few hundred thousand parameters and a hundred steps: where the best rate lies after 0.2 M tokens says "
    "little of 100,000 steps. The paper's tuning width is 128; here it is the width of the smallest model.",
    "The authors' router normalises sigmoids; the lab's families renormalise a softmax over the chosen, which sums to "
    "one as well and has another gradient.",
    "No rule for batch size and duration is tested; every training reads the same tokens in rows of the same length.",
    "No code of the authors was found; the rules are those of their table.",
]


def shaped(
    hidden: int, experts: int, top_k: int, width: int, *, mue: bool, base: int, **train: Any
) -> Any:
    """A recipe of this shape under AdamW; without the mechanism its gates sum to one all the same."""
    rates = dict.fromkeys(("matrix_rate", "vector_rate", "router_rate"), RATE)
    return lab.recipe(
        "olmoe", hidden=hidden, layers=2, heads=2, experts=experts, top_k=top_k, width=width, norm_topk_prob=True,
        optimiser="adamw", mechanisms={"complete_mue": {"base": base}} if mue else {}, **rates, **train,
    )  # fmt: skip


def coordinates(plan: dict[str, Any], seeds: range) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Slopes and sizes over a, N and d, with and without the mechanism."""
    d, steps, train = plan["hidden"], plan["check"], plan["train"]
    slopes, sizes = [], []
    for mue in (True, False):
        grids = {
            "a": {a: shaped(d, 8, a, d // 2, mue=mue, base=d, **train) for a in (1, 2, 4)},
            "N": {n: shaped(d, n, 2, d // 2, mue=mue, base=d, **train) for n in (4, 8, 16)},
            "d": {w: shaped(w, 8, 2, w // 2, mue=mue, base=d, **train) for w in (d, 2 * d)},
        }
        for varied, recipes in grids.items():
            found = lab.coordinate_check(recipes, seeds=seeds, steps=steps)
            named = {"varied": varied, "rules": "Complete-muE" if mue else "none"}
            slopes.append(found.slopes.assign(**named))
            sizes.append(found.table.assign(**named))
            print(f"{named['rules']}, {varied}: {found}", flush=True)
    return pd.concat(slopes, ignore_index=True), pd.concat(sizes, ignore_index=True)


def sweeps(plan: dict[str, Any], seeds: range) -> dict[str, pd.DataFrame]:
    """The best rate by arm, with and without the mechanism."""
    d, train = plan["hidden"], plan["train"] | {"steps": plan["steps"]}
    shapes = {
        "dense": (d, 1, 1, d),
        "8 experts, 2 active": (d, 8, 2, d // 2),
        "16 experts, 4 active": (d, 16, 4, d // 4),
        "twice as wide, 8 experts, 2 active": (2 * d, 8, 2, d),
    }
    parts: dict[str, list[pd.DataFrame]] = {"rates": [], "best": [], "shifts": []}
    for mue in (True, False):
        rules = "Complete-muE" if mue else "none"
        recipes = {name: shaped(*shape, mue=mue, base=d, **train) for name, shape in shapes.items()}
        found = lab.rate_sweep(recipes, plan["factors"], seeds=seeds)
        for name, frame in (("rates", found.table), ("best", found.best), ("shifts", found.shifts)):
            parts[name].append(frame.assign(rules=rules))
        print(f"{rules}: {found}", flush=True)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def models(*, quick: bool) -> pd.DataFrame:
    """The multipliers that models would have: published ones by configuration, bundled ones measured."""
    found = [] if quick else [lab.parameterisation(repo) for repo in KNOWN]
    found += [
        lab.parameterisation(ma.load(name)) for name in ma.bundled_models()[: 1 if quick else None]
    ]
    return pd.concat([each.table.assign(model=each.name) for each in found], ignore_index=True)


def sentence(tables: dict[str, pd.DataFrame], *, quick: bool) -> str:
    shifts = tables["shifts"]
    said = []
    for rules in ("Complete-muE", "none"):
        part = shifts[shifts["rules"] == rules]
        worst = part.loc[part["shift"].abs().idxmax()]
        limits = estimate(worst["shift"], worst["shift_low"], worst["shift_high"], True)
        said.append(
            f"{limits} doublings {'with its rules' if rules != 'none' else 'without'} ({worst['arm']})"
        )
    best = tables["best"]
    edges = int(best["at_edge"].sum())
    edge = f"; {edges} of {int(best['seeds'].sum())} optima lie at an edge of the sweep, of which only a side is known"
    edge = edge if edges else ""
    start = "A try-out that means nothing: f" if quick else "F"
    return f"{start}rom the dense model, the best learning rate moves by at most {said[0]} and {said[1]}{edge}."


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    sheet = sheet_of("Complete-muE", result)
    rates = tables["rates"]
    drawn = rates.rename(columns={"rules": "panel"}).groupby(
        ["panel", "arm", "factor"], sort=False, as_index=False
    )
    drawn = drawn.agg(value=("loss", "mean"), low=("loss", "min"), high=("loss", "max"))
    drawn["panel"] = "rules: " + drawn["panel"]
    sheet.figure(
        profiles(
            drawn, key="rates", title="Loss by learning rate", unit="nats a token", panel="panel", series="arm",
            along="factor", zero=False,
            caption="Mean loss over the last fifth of the steps by factor on all rates; bars from the lowest to the "
            "highest seed.",
        )
    )  # fmt: skip
    for name, value, heading in (
        ("best", "log2_best", "The best rate, in doublings of the recipe's"),
        ("shifts", "shift", "Its distance from the dense model's, paired by seed"),
    ):
        columns = [
            Column("rules", lambda r: r["rules"], text=True),
            Column("arm", lambda r: r["arm"], text=True),
            Column(value, lambda r, v=value: estimate(r[v], r[f"{v}_low"], r[f"{v}_high"], True)),
            Column("seeds", lambda r: r["seeds"]),
        ]
        if name == "best":
            columns.append(Column("seeds at an edge", lambda r: r["at_edge"]))
        sheet.heading(heading)
        sheet.table(table(rows_of(tables[name]), columns, heading))
    sheet.heading("Coordinate check")
    sheet.paragraph(
        "Slope of log2 RMS on log2 of what is varied, after the last step; 0 is no change of size."
    )
    sheet.table(
        table(
            rows_of(tables["slopes"]),
            [
                Column("rules", lambda r: r["rules"], text=True),
                Column("varied", lambda r: r["varied"], text=True),
                Column("of", lambda r: f"{r['what']}, {r['where']}", text=True),
                Column(
                    "slope", lambda r: estimate(r["slope"], r["slope_low"], r["slope_high"], True)
                ),
            ],
            "Slopes of the coordinate check",
        )
    )
    sheet.heading("Models beside the rules")
    sheet.paragraph(
        "AR is what the rules multiply the routed sum by, gates what the model's gates sum to; sigma where down "
        "projections start, down/up where they stand. Blank: only a configuration was read."
    )
    first = tables["models"].groupby("model", sort=False).head(1)
    sheet.table(
        table(
            rows_of(first),
            [
                Column("model (first MoE layer)", lambda r: r["model"], text=True),
                *(Column(n, lambda r, n=n: "" if pd.isna(r[n]) else f"{r[n]:.3g}")
                  for n in ("A", "R", "AR", "gates", "sigma", "down_over_up", "routed_over_residual")),
            ],
            "Multipliers of the first MoE layer",
        )
    )  # fmt: skip
    sheet.heading("What this cannot say")
    sheet.points(LIMITS)
    return sheet.write(path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("reports/lab/complete-mue"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="of a training in the sweep")
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, three steps: machinery alone"
    )
    return started("complete_mue", run, parser.parse_args(argv))


def run(given: argparse.Namespace) -> None:
    small = {"rows": 8, "length": 64, "context": 64, "held_out": 2, "warmup": 5}
    plan = {"hidden": 32, "check": 10, "steps": given.steps, "train": small}
    plan["factors"] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    if given.quick:
        given.seeds = 2
        plan |= {"hidden": 16, "check": 2, "steps": 3, "factors": (0.25, 1.0, 4.0)}
        plan["train"] = small | {"length": 16, "context": 16, "warmup": 0}
    seeds = range(given.seeds)
    slopes, sizes = coordinates(plan, seeds)
    tables = {
        "slopes": slopes,
        "sizes": sizes,
        **sweeps(plan, seeds),
        "models": models(quick=given.quick),
    }
    result = {
        "sentence": sentence(tables, quick=given.quick),
        "command": typed("complete_mue", given),
        "quick": given.quick,
        "seeds": given.seeds,
    }
    written(given, result, tables, write_page)


if __name__ == "__main__":
    sys.exit(main())
