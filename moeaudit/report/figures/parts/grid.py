"""The verdicts of a run's contrasts under other smallest effects of interest, computed once for figure and slider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moeaudit.frames import Frame
from moeaudit.stats import Bound, verdicts_at
from moeaudit.stats.contrast.contrast import QUESTION
from moeaudit.stats.sensitivity import GRID, usable

from ...words.bound import UNITS, bound_words, short_bound
from ...words.evidence import OUTCOMES, metric_name, outcome_name


@dataclass(frozen=True)
class Held:
    """One bound. `verdicts` and `sizes` (the bound in each cell's d_z) stand in the order of the contrasts of the
    tests; None and NaN where the outcome has no such unit."""

    bound: Bound
    declared: bool
    verdicts: Sequence[str | None]
    sizes: np.ndarray


@dataclass(frozen=True)
class Grid:
    """`rows`: question, outcome, metric, role and layer of the contrasts; `held`: one entry a bound."""

    rows: Frame
    held: list[Held]

    @property
    def outcomes(self) -> list[str]:
        found = list(dict.fromkeys(map(str, self.rows["outcome"])))
        return sorted(found, key=lambda o: [*OUTCOMES, *found].index(o))

    def counts(self) -> Frame:
        """Metric contrasts by verdict, as `verdicts_over` counts them: a row an outcome and bound."""
        import pandas as pd

        out: list[dict[str, Any]] = []
        metric = (self.rows["role"] == "metric").to_numpy()
        for outcome in self.outcomes:
            mine = metric & (self.rows["outcome"] == outcome).to_numpy()
            for held in self.held:
                words = np.array(held.verdicts, dtype=object)[mine]
                if all(word is None for word in words):
                    continue
                sizes = held.sizes[mine]
                middle = float(np.nanmedian(sizes)) if np.isfinite(sizes).any() else np.nan
                entry = {"outcome": outcome, "sesoi": str(held.bound), "unit": held.bound.unit}
                counted = {str(w): int((words == w).sum()) for w in dict.fromkeys(words) if w}
                size = {"d_z": middle, "cells": int(mine.sum()), "declared": held.declared}
                out.append({**entry, **size, **counted})
        frame = pd.DataFrame(out)
        keys = ["outcome", "sesoi", "unit", "d_z", "cells", "declared"]
        seen = [word for word in frame if word not in keys]
        return frame.fillna(dict.fromkeys(seen, 0)).astype(dict.fromkeys(seen, int))

    def data(self, verdicts: Sequence[str]) -> dict[str, Any]:
        """What the slider reads: of every bound its words and a letter a contrast, its place in `verdicts`."""
        letter = {word: chr(ord("a") + i) for i, word in enumerate(verdicts)}
        names = list(dict.fromkeys(map(str, self.rows["metric"])))
        outcomes = list(dict.fromkeys(map(str, self.rows["outcome"])))
        return {
            "verdicts": list(verdicts),
            "metrics": [metric_name(name)[0] for name in names],
            "outcomes": [outcome_name(o) for o in outcomes],
            "rows": [
                [names.index(str(m)), outcomes.index(str(o)), int(r == "metric")]
                for m, o, r in zip(self.rows["metric"], self.rows["outcome"], self.rows["role"])
            ],
            "grid": [
                {
                    "unit": UNITS[held.bound.unit],
                    "short": short_bound(held.bound),
                    "words": bound_words(held.bound),
                    "declared": held.declared,
                    "cells": "".join("-" if v is None else letter[v] for v in held.verdicts),
                }
                for held in self.held
            ],
        }


def over_grid(tests: Frame, declared: str) -> Grid:
    """The verdicts of the tests' contrasts at every bound of the grid, and at the one that was declared."""
    chosen = Bound.parse(declared)
    bounds = {str(Bound.parse(g)): Bound.parse(g) for g in GRID} | {str(chosen): chosen}
    order = {unit: i for i, unit in enumerate(UNITS)}
    rows = tests[tests["question"] == QUESTION]
    plain = rows[["outcome", "metric", "role", "layer"]].reset_index(drop=True)
    place = {label: i for i, label in enumerate(rows.index)}
    held = []
    for bound in sorted(bounds.values(), key=lambda b: (order[b.unit], b.value)):
        words: list[str | None] = [None] * len(rows)
        sizes = np.full(len(rows), np.nan)
        for outcome in dict.fromkeys(rows["outcome"]):
            if not usable([bound], str(outcome)):
                continue
            found = verdicts_at(tests[tests["outcome"] == outcome], bound)
            size = found["sesoi"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
            for label, word, value in zip(found.index, found["verdict"], size):
                words[place[label]], sizes[place[label]] = str(word), value
        held.append(Held(bound, str(bound) == str(chosen), words, sizes))
    return Grid(plain, held)
