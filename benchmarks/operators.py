"""What each question costs beside the plain removal, on the same document in the same run.

    python -m benchmarks.operators            # all bundled models at 64 tokens

Ratios are medians over rounds in which all contestants take turns, so that a busy machine slows
all of them alike. The limits are those that the engine was built to keep.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import moeaudit as ma
from benchmarks.speed import document, machine

MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2")
HORIZON = 3
Question = tuple[Callable[[], object], float | None]


def questions(model: ma.Model, ids: np.ndarray, held_out: int) -> dict[str, Question]:
    """What is asked, and how many plain removals it may cost; None where no limit was set."""
    docs = [d.text for d in ma.corpus("bundled", split="calibration").documents[:held_out]]
    outputs = ma.expert_outputs(model, docs)
    k = max(layer.top_k for layer in model.anatomy.layers)

    def of(operator: object, **options: object) -> Callable[[], object]:
        return lambda: ma.ablate(model, [ids], operator, **options)  # type: ignore[arg-type]

    return {
        "Zero": (of(ma.Zero()), None),
        "Renormalize": (of(ma.Renormalize()), 1.3),
        "MeanOutput": (of(ma.MeanOutput(outputs)), 1.3),
        "Resample": (of(ma.Resample(outputs)), 1.3),
        "Swap(0)": (of(ma.Swap(0)), 1.3),
        "Zero, routing frozen": (of(ma.Zero(), frozen_routing=True), 1.3),
        "all pairs": (of(ma.Coalitions((2,))), 1.3 * k / 2),
        f"Zero, horizon {HORIZON}": (of(ma.Zero(), horizon=HORIZON), 1.3 * (HORIZON + 1)),
        "Reroute": (of(ma.Reroute()), None),
        "all coalitions": (of(ma.Coalitions()), None),
        "Swap('all')": (of(ma.Swap("all")), None),
        "Everywhere(Zero)": (of(ma.Everywhere(ma.Zero())), None),
    }


def measured(model: ma.Model, tokens: int, rounds: int, held_out: int) -> dict[str, list[float]]:
    """Ratios to `Zero` by question, one for each round."""
    asked = questions(model, document(model, tokens), held_out)
    ratios: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(rounds + 1):
        seconds = {}
        for name, (ask, _) in asked.items():
            start = time.perf_counter()
            ask()
            seconds[name] = time.perf_counter() - start
        if turn:  # the first round warms up
            for name, value in seconds.items():
                ratios[name].append(value / seconds["Zero"])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks-operators.md"))
    options = parser.parse_args()
    lines = {}
    console = Console(width=150)
    for name in options.models:
        model = ma.load(name)
        with console.status(name):
            found = measured(model, options.tokens, options.rounds, options.held_out)
        asked = questions(model, document(model, options.tokens), options.held_out)
        for question, ratios in found.items():
            limit = asked[question][1]
            median = statistics.median(ratios)
            cell = f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            if limit is not None:
                cell += f"; limit {limit:.1f}" + ("" if median <= limit else ", EXCEEDED")
            lines.setdefault(question, []).append(cell)
    table = Table("question", *options.models, title="Cost, in plain removals of the same document")
    for question, cells in lines.items():
        table.add_row(question, *cells)
    console.print(table)
    header = "| question | " + " | ".join(options.models) + " |"
    rows = [f"| {question} | " + " | ".join(cells) + " |" for question, cells in lines.items()]
    text = (
        "# What each question costs\n\nWritten by `python -m benchmarks.operators`. Time of one whole table of "
        f"effects over the time of `Zero` on the same document of {options.tokens} tokens, median over "
        f"{options.rounds} rounds in which all take turns (smallest and largest in brackets). `all pairs` has "
        "(k - 1) / 2 rows for each removal, a horizon of h carries h + 1 tokens a row, `Swap('all')` has one row for "
        "each expert of the layer, and `Everywhere` runs full forwards of the document.\n\n"
        + "\n".join([header, "|" + "---|" * (1 + len(options.models)), *rows])
        + f"\n\n{machine()}.\n"
    )
    options.out.write_text(text, encoding="utf-8")
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    main()
