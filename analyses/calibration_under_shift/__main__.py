"""Does training against the worst case keep a mixture calibrated, or does one temperature do the same?

    pip install moeaudit[analyses]        # scikit-learn, for the digits
    python -m analyses.calibration_under_shift --out DIR [--seeds N] [--quick] [--tasks digits,text]
                                              [--strength 2] [--radius 0.5]

Soft-routed and hard-routed classifier mixtures are trained on digits and on text (see
tasks.py) by the plain loss, the adversarially tilted and filtered losses of
arXiv 2606.20544, and a tilt of routing configurations at a bounded KL. Each is scored as trained and
after one aggregate temperature from validation samples; the plain ones also after one temperature per
expert, and after one temperature fitted by the robust loss itself. Written to DIR:

    scores.csv          every metric by stratum, with 95 % intervals over seeds and clusters
    differences.csv     paired differences between conditions
    advantage.csv       what is left of each robust loss's gain after one temperature, and the verdict
    temperatures.csv, configurations.csv   by seed
    example.csv         the closed-form example, checked
    run.json            seeds, settings, versions
    index.html          one page with figures

The same seeds give the same tables on the same machine. Default: 5 seeds on digits, 3 on text.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import moeaudit as ma
from moeaudit.errors import InputError

from .example import closed_form
from .methods import GLOBAL, NONE, PUBLISHED, ROBUST, ROUTED, by_objective, configuration_facts, fit
from .page import write_page
from .robust_training import OBJECTIVES
from .scores import METRICS, Limit, Sampler, Scores, difference, limits, remaining
from .tasks import Task, digits, text

TASKS = {"digits": (digits, 5), "text": (text, 3)}
Key = tuple[str, str, str]  # routing, training, recalibration


def run_task(
    task: Task, seeds: int
) -> tuple[dict[Key, Scores], Sampler, pd.DataFrame, pd.DataFrame]:
    """All conditions of a task: scores by condition, temperatures and routing facts by seed."""
    sampler = Sampler(task.test)
    parts: dict[Key, list[Scores]] = {}
    temperatures, facts = [], []
    for routing in ("soft", "hard"):
        for training in OBJECTIVES:
            for seed in range(seeds):
                start = time.perf_counter()
                fitted = fit(task, routing, training, seed)
                where = {"task": task.name, "routing": routing, "training": training, "seed": seed}
                for recalibration, log_probs in fitted.log_probs.items():
                    key = (routing, training, recalibration)
                    parts.setdefault(key, []).append(sampler.score(log_probs))
                    row = configuration_facts(task, fitted, recalibration)
                    facts.append({**where, "recalibration": recalibration, **row})
                for name, values in fitted.temperatures.items():
                    for expert, t in enumerate(values):
                        which = expert if len(values) > 1 else -1
                        row = {**where, "recalibration": name, "expert": which, "temperature": t}
                        temperatures.append(row)
                took = time.perf_counter() - start
                print(f"{task.name} {routing} {training} seed {seed}: {took:.1f} s", flush=True)
    scores = {key: Scores.stack(value) for key, value in parts.items()}
    return scores, sampler, pd.DataFrame(temperatures), pd.DataFrame(facts)


def _row(limit: Limit, **where: Any) -> dict[str, Any]:
    return {**where, "value": limit.value, "low": limit.low, "high": limit.high}


def score_rows(task: str, scores: dict[Key, Scores], strata: list[str]) -> Iterator[dict[str, Any]]:
    for (routing, training, recalibration), s in scores.items():
        for i, stratum in enumerate(strata):
            for metric in METRICS:
                limit = limits(s.value[metric][:, i], s.draws[metric][:, i])
                if metric != "gap":  # none of the others can be negative
                    limit = Limit(limit.value, max(limit.low, 0.0), limit.high)
                yield _row(
                    limit, task=task, routing=routing, training=training,
                    recalibration=recalibration, stratum=stratum, metric=metric,
                )  # fmt: skip


def comparisons(routing: str) -> Iterator[tuple[str, str, Key, Key]]:
    """(training, name, a, b): the differences a - b that are reported."""
    vanilla, tempered = (routing, "vanilla", NONE), (routing, "vanilla", GLOBAL)
    for t in ROBUST:
        own = (routing, "vanilla", by_objective(t))
        yield t, "as trained - vanilla", (routing, t, NONE), vanilla
        yield t, "both with one temperature", (routing, t, GLOBAL), tempered
        yield t, "as trained - vanilla with one temperature", (routing, t, NONE), tempered
        yield t, "as trained - vanilla with one temperature by that loss", (routing, t, NONE), own
    for name in (PUBLISHED, ROUTED):
        yield "vanilla", f"{name} - one temperature", (routing, "vanilla", name), tempered
    yield "vanilla", "one temperature - none", tempered, vanilla


def difference_rows(
    task: str, scores: dict[Key, Scores], strata: list[str]
) -> Iterator[dict[str, Any]]:
    for routing in ("soft", "hard"):
        for training, name, a, b in comparisons(routing):
            for i, stratum in enumerate(strata):
                for metric in METRICS:
                    yield _row(
                        difference(scores[a], scores[b], metric, i), task=task, routing=routing,
                        training=training, comparison=name, stratum=stratum, metric=metric,
                    )  # fmt: skip


def advantage_rows(
    task: str, scores: dict[Key, Scores], strata: list[str]
) -> Iterator[dict[str, Any]]:
    """What is left of a robust loss's gain in ECE and |gap| once both sides have one temperature."""
    for routing in ("soft", "hard"):
        for training in ROBUST:
            raw, after = (
                (scores[routing, training, r], scores[routing, "vanilla", r])
                for r in (NONE, GLOBAL)
            )
            for i, stratum in enumerate(strata):
                for metric in ("ece", "abs_gap"):
                    gain = difference(*raw, metric, i)
                    left = difference(*after, metric, i)
                    share = remaining(raw, after, metric, i)
                    yield {
                        "task": task, "routing": routing, "training": training,
                        "stratum": stratum, "metric": metric,
                        "raw": gain.value, "raw_low": gain.low, "raw_high": gain.high,
                        "after": left.value, "after_low": left.low, "after_high": left.high,
                        "share_left": share.value if share else np.nan,
                        "share_low": share.low if share else np.nan,
                        "share_high": share.high if share else np.nan,
                        "verdict": verdict(gain, share),
                    }  # fmt: skip


def verdict(gain: Limit, share: Limit | None) -> str:
    """Whether one temperature does away with most (more than half) of a gain."""
    if share is None:
        return "worse as trained" if gain.low > 0 else "no decided gain"
    if share.high < 0.5:
        return "mostly gone"
    return "mostly left" if share.low > 0.5 else "undecided"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and page")
    parser.add_argument("--seeds", type=int, help="seeds of every task (default 5 and 3)")
    parser.add_argument("--quick", action="store_true", help="2 seeds, short training: a try-out")
    parser.add_argument("--tasks", default="digits,text", help="digits, text or both")
    parser.add_argument("--strength", type=float, default=2.0, help="of the tilt (published: 2)")
    parser.add_argument("--radius", type=float, default=0.5, help="of the bounded tilt, nats")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        adversary = {"strength": args.strength, "radius": args.radius}
        run(args.out, args.tasks.split(","), args.seeds, args.quick, adversary)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(
    out: Path, names: list[str], seeds: int | None, quick: bool, adversary: dict[str, float]
) -> None:
    unknown = [n for n in names if n not in TASKS]
    if unknown or (seeds is not None and seeds < 2):
        raise InputError(
            f"Tasks are {' and '.join(TASKS)}, and at least 2 seeds are needed for an interval; asked for "
            f"were {', '.join(names)} with {seeds or 'the default number of'} seeds."
        )
    example = closed_form()
    print(example.to_string(index=False), flush=True)
    if not all(example["as_expected"]):
        raise AssertionError("the closed-form example does not hold")
    tables: dict[str, list[Any]] = {"scores": [], "differences": [], "advantage": []}
    by_seed: dict[str, list[pd.DataFrame]] = {"temperatures": [], "configurations": []}
    record: dict[str, Any] = {"quick": quick, "tasks": {}}
    for name in names:
        build, usual = TASKS[name]
        task, n = build(quick), seeds or (2 if quick else usual)
        task = replace(task, settings=replace(task.settings, **adversary))
        scores, sampler, temperatures, facts = run_task(task, n)
        tables["scores"] += score_rows(name, scores, sampler.strata)
        tables["differences"] += difference_rows(name, scores, sampler.strata)
        tables["advantage"] += advantage_rows(name, scores, sampler.strata)
        by_seed["temperatures"].append(temperatures)
        by_seed["configurations"].append(facts)
        record["tasks"][name] = {
            "seeds": n, "settings": asdict(task.settings), "rows": len(task.test.labels),
            "clusters": len(task.test.block), "focus": task.focus,
            "seen": task.test.seen, "shifted": task.test.shifted,
        }  # fmt: skip
    record["versions"] = {m.__name__: m.__version__ for m in (ma, np, torch)}
    out.mkdir(parents=True, exist_ok=True)
    frames = {k: pd.DataFrame(v) for k, v in tables.items()}
    frames |= {k: pd.concat(v, ignore_index=True) for k, v in by_seed.items()}
    frames["example"] = example
    for name, frame in frames.items():
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.6f")
    (out / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    write_page(out / "index.html", frames, record)
    print(f"wrote {out / 'index.html'}")


if __name__ == "__main__":
    raise SystemExit(main())
