"""Two runs of one model differ in nothing: how often does a comparison of them claim something?

    OMP_NUM_THREADS=1 python -m benchmarks.validity.compared RUN [--replicates 200]

takes the census of a finished run and makes two of it, in which nothing differs but chance: other documents (the
documents are dealt to two sides) or the same documents (the tokens of each are dealt to two sides). Both are then
compared as `moeaudit.compare` does, by the package's own code, without a smallest difference of interest. Printed, by
outcome and kind of place: the share of comparisons in which a difference is shown anywhere (at most alpha = .05 is
promised), the mean number of places that are shown, and how often a place's 95 % limits hold the true difference, 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.runs.run import StoredRun
from moeaudit.seeds import generator
from moeaudit.stats.difference.columns import Sums, difference_of_columns, pooled
from moeaudit.stats.difference.verdicts import SHOWN, judged

OUTCOMES = ("delta_nll", "kl")
ALPHA = 0.05


class Census:
    """Effects as arrays: sums by document, half of the tokens, and cell can be made of them quickly."""

    def __init__(self, effects: Frame) -> None:
        self.document = pd.factorize(effects["document"])[0]
        self.documents = int(self.document.max()) + 1
        tokens = pd.MultiIndex.from_frame(effects[["document", "position"]])
        self.token = pd.factorize(tokens)[0]
        cells = pd.MultiIndex.from_frame(effects[["layer", "expert"]])
        self.cell, names = pd.factorize(cells, sort=True)
        self.layers = pd.factorize(np.array([layer for layer, _ in names]))[0]
        self.values = {name: effects[name].to_numpy(float) for name in OUTCOMES}

    def sums(self, outcome: str, rows: np.ndarray) -> Sums:
        shape = self.documents, len(self.layers)
        flat = self.document[rows] * shape[1] + self.cell[rows]
        size = shape[0] * shape[1]
        total = np.bincount(flat, self.values[outcome][rows], size).reshape(shape)
        return Sums(total, np.bincount(flat, minlength=size).reshape(shape).astype(float))

    def other_documents(self, rng: np.random.Generator) -> np.ndarray:
        """Rows of one side: half of the documents."""
        return (rng.permutation(self.documents) % 2 == 0)[self.document]

    def same_documents(self, rng: np.random.Generator) -> np.ndarray:
        """Rows of one side: about half of the tokens of every document."""
        return (rng.random(int(self.token.max()) + 1) < 0.5)[self.token]


def measured(
    census: Census,
    split: Callable[[np.random.Generator], np.ndarray],
    outcome: str,
    replicates: int,
    seed: int,
) -> list[dict[str, object]]:
    """One row for cells and one for layers."""
    found = {name: {"any": 0, "shown": 0, "held": 0, "limits": 0} for name in ("cells", "layers")}
    n = int(census.layers.max()) + 1
    for replicate in range(replicates):
        rows = split(generator(seed, split.__name__, replicate))
        sides = [census.sums(outcome, part) for part in (rows, ~rows)]
        places = {"cells": sides, "layers": [pooled(side, census.layers, n) for side in sides]}
        for name, (a, b) in places.items():
            difference = difference_of_columns(a, b)
            said = judged([difference], bound=None, alpha=ALPHA, seed=replicate, n_flips=1999)[0]
            shown = sum(verdict in SHOWN for verdict in said.verdict)
            known = np.isfinite(difference.low) & np.array([why is None for why in said.too_few])
            here = found[name]
            here["any"] += shown > 0
            here["shown"] += shown
            here["held"] += int(((difference.low <= 0) & (difference.high >= 0))[known].sum())
            here["limits"] += int(known.sum())
    return [
        {
            "documents": split.__name__.replace("_", " "),
            "outcome": outcome,
            "places": name,
            "any claim": f"{here['any'] / replicates:.3f}",
            "shown": f"{here['shown'] / replicates:.2f}",
            "limits hold 0": f"{here['held'] / max(here['limits'], 1):.3f}",
            "with a verdict": f"{here['limits'] / replicates:.0f}",
        }
        for name, here in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    run = StoredRun.load(asked.run)
    columns = ["document", "position", "layer", "expert", *OUTCOMES]
    census = Census(pd.concat(run.shards.frames(columns), ignore_index=True))
    print(f"{run.spec.model}, {census.documents} documents, {asked.replicates} comparisons a row\n")
    rows = [
        row
        for split in (census.other_documents, census.same_documents)
        for outcome in OUTCOMES
        for row in measured(census, split, outcome, asked.replicates, asked.seed)
    ]
    head = list(rows[0])
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
