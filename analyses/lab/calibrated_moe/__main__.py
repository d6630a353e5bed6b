"""Calibrated MoE under shift: does training against the worst case do more for confidence than one temperature?

    pip install moeaudit[analyses]        # scikit-learn, for the digits
    python -m analyses.lab.calibrated_moe [--quick] [--pool FOLDER] [--seeds N] [--out FOLDER] [--config FILE]
                                          [--tasks digits,text,language]

Two parts, both trained as a TOML file says (recipe.toml, or --config), into the folder of the pool:

Classifier mixtures, soft- and hard-routed, on digits and on text (classifiers/tasks.py), by the plain loss, the
adversarially tilted and filtered losses of arXiv 2606.20544, and a tilt of routing configurations at a bounded KL.
Each is scored as trained and after one aggregate temperature from validation samples; the plain ones also after one
temperature per expert, and after one temperature fitted by the robust loss itself.

Sparse language models of the pool: arms without and with the tilt, with one, two and four experts a token, and without
balance, scored on documents of the training domains and of held-out ones, as trained and after one temperature.

Writes scores.csv (every metric by stratum, 95 % intervals over seeds and clusters), differences.csv, advantage.csv
(what is left of each robust loss's gain after one temperature, and the verdict), temperatures.csv, configurations.csv,
language.csv, shift.csv, models.csv, arms.csv, example.csv (the closed-form example, checked), figures as SVG,
result.json and index.html. The same seeds give the same tables on the same machine.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import moeaudit as ma
from moeaudit.errors import one_of
from moeaudit.lab.pools.pool import default_folder

from ..shared import options, over_seeds, pool_of, settled, started, typed, written
from . import language
from .classifiers.example import closed_form
from .classifiers.tasks import digits, text
from .page import sentences, write_page
from .recipe import BUNDLED, Recipe
from .rows import advantage_rows, difference_rows, score_rows
from .training import run_task

TASKS = {"digits": digits, "text": text}
FACTS = ["temperature", "worst", "worst_null", "worst_excess"]
# Thousands of rows are in the CSV files alone.
TOLD = ("advantage", "language", "shift", "arms", "models", "example")


def main(argv: list[str] | None = None) -> int:
    parser = options(
        (__doc__ or "").split("\n")[0], "reports/lab/calibrated-moe", 12, 128, seeds=None
    )
    parser.add_argument("--config", type=Path, default=BUNDLED, help="recipe in TOML")
    parser.add_argument(
        "--tasks", default=",".join([*TASKS, language.TASK]), help="which parts (default all)"
    )
    given = settled(parser.parse_args(argv))
    if given.quick:
        given.documents, given.tokens = 2, 32
    torch.set_num_threads(1)
    return started("calibrated_moe", run, given)


def run(given: Any) -> None:
    start = time.time()
    names = [name.strip() for name in given.tasks.split(",")]
    for name in names:
        one_of(name, [*TASKS, language.TASK], "task")
    recipe = Recipe.read(given.config, TASKS).settled(given.seeds, quick=given.quick)
    example = closed_form()
    if not all(example["as_expected"]):
        raise AssertionError("the closed-form example does not hold")
    tables: dict[str, Any] = {"scores": [], "differences": [], "advantage": []}
    tables |= {"temperatures": [], "configurations": []}
    result: dict[str, Any] = {
        "system": "Calibrated MoE under shift",
        "paper": "arXiv 2606.20544",
        "command": typed("calibrated_moe", given),
        "quick": given.quick,
        "recipe": recipe.to_dict(),
        "tasks": {},
    }
    for name in names:
        if name == language.TASK:
            continue
        classifiers(name, recipe, given, tables, result)
    frames = {k: pd.DataFrame(v) for k, v in tables.items() if k not in BY_SEED}
    frames |= {k: pd.concat(tables[k], ignore_index=True) for k in BY_SEED if tables[k]}
    frames["example"] = example
    if language.TASK in names:
        models(recipe, given, frames, result)
    result["versions"] = {m.__name__: m.__version__ for m in (ma, np, torch)}
    result["minutes"] = round((time.time() - start) / 60, 1)
    result["sentences"] = sentences(frames, result)
    frames = {name: frame for name, frame in frames.items() if len(frame)}
    written(given, result, frames, write_page, told=TOLD)


BY_SEED = ("temperatures", "configurations")


def classifiers(name: str, recipe: Recipe, given: Any, tables: dict[str, Any], result: Any) -> None:
    """A task of the classifiers: rows into `tables`, what it is into `result`."""
    task, seeds = TASKS[name](given.quick), recipe.tasks[name].seeds
    task = replace(task, settings=recipe.settings(name))
    folder = given.pool or (given.out / "pool" if given.quick else default_folder())
    scores, sampler, temperatures, facts = run_task(task, seeds, folder)
    tables["scores"] += score_rows(name, scores, sampler.strata)
    tables["differences"] += difference_rows(name, scores, sampler.strata)
    tables["advantage"] += advantage_rows(name, scores, sampler.strata)
    tables["temperatures"].append(temperatures)
    tables["configurations"].append(facts)
    result["tasks"][name] = {
        "seeds": seeds, "settings": asdict(task.settings), "rows": len(task.test.labels),
        "clusters": len(task.test.block), "focus": task.focus,
        "seen": task.test.seen, "shifted": task.test.shifted,
    }  # fmt: skip


def models(recipe: Recipe, given: Any, frames: dict[str, pd.DataFrame], result: Any) -> None:
    """The language models of the pool: their tables into `frames`, what they are into `result`."""
    asked = recipe.language
    given.seeds = asked.seeds
    pool = pool_of(given, asked.names)
    scores, sampler, facts = language.measured(pool, asked.names, given.documents, given.tokens)
    strata = sampler.strata
    more = pd.DataFrame(score_rows(language.TASK, language.by_routing(scores), strata))
    frames["scores"] = pd.concat([frames["scores"], more], ignore_index=True)
    frames["language"] = pd.DataFrame(language.difference_rows(scores, asked.against, strata))
    frames["shift"] = pd.DataFrame(language.shift_rows(scores, strata))
    losses = pool.models[["arm", "seed", "nll"]]
    frames["models"] = facts.merge(losses, on=["arm", "seed"], how="left", validate="1:1")
    frames["arms"] = over_seeds(frames["models"], ["arm"], ["nll", *FACTS])
    result["notes"] = language.notes(facts)
    test = sampler.test
    result["tasks"][language.TASK] = {
        "seeds": asked.seeds, "arms": list(asked.names), "against": asked.against,
        "rows": len(test.cluster), "clusters": len(test.block), "focus": language.FOCUS,
        "seen": test.seen, "shifted": test.shifted,
        "documents_of_a_domain": given.documents, "tokens_of_a_document": given.tokens,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
