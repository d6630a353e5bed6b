"""Will a model survive pruning? Signs from a census of few documents, judged on recipes that they were not learnt from.

    python -m analyses.lab.prunability [--quick] [--pool FOLDER] [--out FOLDER]

Takes the models of the lab's pool (recipes by seeds; one active expert a token is left out and said), computes
the signs (`moeaudit.pruning.forecast.SIGNS`) on the first tokens of a few calibration documents, prunes a quarter
and a half of the experts by REAP, its scores from the same documents, and measures the loss on test documents. Each
recipe is then forecast from the others, with all signs, each alone, the configuration alone and the mean of the
others; last the three bundled models, whose training was another. What was measured is kept model by model under
--out, so that the same command goes on where it stopped. Writes models.csv, models.json (what made it), ways.csv,
forecasts.csv, bundled.csv, result.json, index.html; models.csv is what `moeaudit prune --forecast` and
`moeaudit.pruning.forecast.forecast` learn from, and the one of the package was written by this.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.pruning.forecast import SIGNS, Signs
from moeaudit.pruning.forecast.fit import fragile
from moeaudit.pruning.forecast.forecast import of_signs
from moeaudit.pruning.forecast.known import record_of
from moeaudit.runs.working.provenance import code_revision, package_versions
from moeaudit.store.files import write_json

from ..shared import clean, options, pool_of, settled, started, typed, written
from .judged import WHOLE, judged, ways
from .models import KEEP, Asked, measured
from .page import sentence, write_page

TARGETS = {name: f"{1 - keep:.0%} pruned" for keep, name in KEEP.items()}
LEFT_OUT = {
    "dense": "no experts",
    "olmoe-coarse": "one active expert a token: nothing to take together",
    "olmoe-tilted": "trained to another loss than the one that is forecast",
    "olmoe-tilted-weak": "trained to another loss than the one that is forecast",
}


def main(argv: list[str] | None = None) -> int:
    parser = options((__doc__ or "").split("\n")[0], "reports/lab/prunability", 2, 48)
    parser.add_argument("--criterion", default="reap", help="prunes by this (default reap)")
    given = settled(parser.parse_args(argv))
    return started("prunability", run, given)


def run(given: Any) -> None:
    arms = [name for name, arm in lab.ARMS.items() if name not in LEFT_OUT and not arm.lacks]
    pool = pool_of(given, arms)
    asked = Asked(
        given.documents, given.tokens, 3 * given.documents, 2 * given.tokens, given.criterion
    )
    models = [(arm, seed, str(pool.get(arm, seed))) for arm in arms for seed in pool.seeds]
    table = measured(models, asked, given.out / "measured", lambda words: print(words, flush=True))
    sizes: Any = pool.models[["arm", "seed", "unique"]]
    sizes = sizes.rename(columns={"arm": "recipe", "unique": "parameters"})
    table = table.merge(sizes, on=["recipe", "seed"], how="left", validate="one_to_one")
    scores, told = judged(table, TARGETS)
    own = [(name, 0, name) for name in ma.bundled_models()]
    bundled = forecast_of(measured(own, asked, given.out / "measured", print), table)
    command = typed("prunability", given)
    result = {
        "system": "Prunability",
        "command": command,
        "quick": given.quick,
        "criterion": given.criterion,
        "models": len(table),
        "recipes": len(set(table["recipe"])),
        "left_out": LEFT_OUT,
        "documents": {"signs": 8 * asked.signs, "losses": 8 * asked.losses},
        "tokens": {"signs": asked.signs_tokens, "losses": asked.losses_tokens},
        "without": {target: fragile(table, target, ways(table)[WHOLE]) for target in TARGETS},
    }
    tables = {
        "models": table.drop(columns="reasons"),
        "ways": scores,
        "forecasts": told,
        "bundled": bundled,
    }
    result["sentence"] = sentence(tables, result)
    written(given, result, tables, write_page)
    write_json(given.out / "models.json", record(given, pool, result, bundled))


def record(given: Any, pool: Any, result: dict[str, Any], bundled: Any) -> dict[str, Any]:
    """What stands beside models.csv: what made it, and how models trained otherwise were forecast."""
    return record_of(
        (given.out / "models.csv").read_bytes(),
        **{name: result[name] for name in ("command", "quick", "criterion", "documents", "tokens")},
        without=clean(result["without"]),
        text={split: ma.corpus("bundled", split=split).hash for split in ("calibration", "test")},
        recipes={
            arm: {str(seed): pool.recipe(arm, seed).hash for seed in pool.seeds}
            for arm in pool.arms
        },
        elsewhere={
            "models": int(bundled["model"].nunique()),
            "losses": len(bundled),
            "inside": int(bundled["inside"].sum()),
        },
        packages=package_versions(),
        code=code_revision(),
    )


def forecast_of(own: Any, table: pd.DataFrame) -> pd.DataFrame:
    """The bundled models as the lab's models forecast them, beside what they lost."""
    rows = []
    for _, row in own.iterrows():
        values = {name: None if pd.isna(row[name]) else float(row[name]) for name in SIGNS}
        signs = Signs(
            row["recipe"], values, {}, row["clean_nll"], 0, 0, row["experts"], row["top_k"]
        )
        found: Any = of_signs(signs, table).table
        for _, cell in found.iterrows():
            target = KEEP[cell["keep"]]
            rows.append(
                {
                    "model": row["recipe"],
                    "target": TARGETS[target],
                    "lost": row[target],
                    "predicted": cell["lost"],
                    "low": cell["low"],
                    "high": cell["high"],
                    "inside": bool(cell["low"] <= row[target] <= cell["high"]),
                    "outside": cell["outside"],
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(main())
