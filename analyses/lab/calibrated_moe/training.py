"""All classifiers of a task, trained or read, and scored."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from .classifiers.methods import configuration_facts, fit
from .classifiers.robust_training import OBJECTIVES
from .classifiers.tasks import Task
from .rows import Key
from .scores import Sampler, Scores


def run_task(
    task: Task, seeds: int, folder: Path
) -> tuple[dict[Key, Scores], Sampler, pd.DataFrame, pd.DataFrame]:
    """All conditions of a task: scores by condition, temperatures and routing facts by seed."""
    sampler = Sampler(task.test)
    parts: dict[Key, list[Scores]] = {}
    temperatures, facts = [], []
    for routing in ("soft", "hard"):
        for training in OBJECTIVES:
            for seed in range(seeds):
                start = time.perf_counter()
                fitted = fit(task, routing, training, seed, folder)
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
