"""The scenarios of benchmarks/validity.py and the page they become."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from validity import (
    BOUND,
    CELLS,
    Draw,
    Law,
    claims,
    coverage,
    family_wise,
    real_census,
    redrawn,
    simulated,
)

DESIGNS = ((25, 8), (50, 64), (150, 64))
SKEWS = (0.0, 0.1)
EFFECTS = (0.0, 0.1, 0.2)
FLIPS = 999
INTRO = """# What the statistics do when the truth is known

Made by

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/validity.py --out docs/methods/validity.md \\
        [--run FOLDER]

which simulates whole audits: 20 cells that share tokens, differences clustered by document, with
tails as heavy as real ones (the class `Law` gives the recipe and what it was fitted to). *Skewed* audits
have a mean of zero with a heavier positive than negative tail. *Redrawn* audits take whole documents
from the census of a finished run, whose cells were centred so that nothing predicts anything; their tails, clusters and
dependence between cells are nobody's assumption. One standard error of a share near .05 over 2,000
audits is .005.
"""


def report(runs: int, seed: int, run: Path | None) -> str:
    """Run everything and return the page."""
    real, parts = None, [INTRO]
    if run is not None:
        real, tails = real_census(run, "delta_nll")
        seen = ", ".join(f"{name} {value:.2f}" for name, value in tails.items())
        parts.append(
            f"The census redrawn from: {real.shape[0]} cells, {real.shape[1]} documents, "
            f"{int(real[0, :, 0].sum()):,} tokens; medians over cells of the differences: {seen}.\n"
        )
    cases = list(scenarios(real))
    parts.append(wrong_claims(cases, runs, seed))
    parts.append(intervals(real, max(20, runs // 10), seed))
    parts.append(verdict_claims(real, max(20, runs // 10), seed))
    return "\n".join(parts)


def scenarios(real: np.ndarray | None) -> list[tuple[str, Draw]]:
    out = [
        (f"{d} x {t}, {'skewed' if skew else 'symmetric'}", simulated(Law(skew=skew), d, t))
        for d, t in DESIGNS
        for skew in SKEWS
    ]
    if real is not None:
        out += [(f"redrawn, {d} documents", redrawn(real, d)) for d in (25, 50, 100, real.shape[1])]
    return out


def wrong_claims(cases: list[tuple[str, Draw]], runs: int, seed: int) -> str:
    rows = []
    for name, draw in cases:
        rows.append((name, family_wise(draw, runs, seed, FLIPS)))
        _tell(name, rows[-1][1])
    text = (
        f"## False claims\n\nShare of {runs} audits without any effect in which at least one of the "
        "cells is called an effect at .05 (first four columns; max-T is what verdicts use), and share "
        "of single cells with p <= .05 (last three). Documents x tokens per document.\n"
    )
    return text + "\n" + markdown("audit", rows)


def intervals(real: np.ndarray | None, runs: int, seed: int) -> str:
    rows = []
    for documents, tokens in DESIGNS:
        for skew in SKEWS:
            for effect in EFFECTS:
                kind = "skewed" if skew else "symmetric"
                name = f"{documents} x {tokens}, {kind}, d = {effect:g}"
                draw = simulated(Law(skew=skew), documents, tokens, effect)
                rows.append((name, coverage(draw, np.full(CELLS, effect), runs, seed, 500)))
                _tell(name, rows[-1][1])
    if real is not None:
        for documents in (50, real.shape[1]):
            for effect in EFFECTS:
                name = f"redrawn, {documents} documents, d = {effect:g}"
                truth = np.full(len(real), effect)
                draw = redrawn(real, documents, effect)
                rows.append((name, coverage(draw, truth, max(10, runs // 4), seed, 500)))
                _tell(name, rows[-1][1])
    text = (
        f"## Intervals\n\nShare of 95 % intervals of d_z that hold the truth ({runs} audits, every "
        "cell). `jackknife` is the default; `token` is the interval of the literature.\n"
    )
    return text + "\n" + markdown("audit", rows)


def verdict_claims(real: np.ndarray | None, runs: int, seed: int) -> str:
    rows = []
    cases: list[tuple[str, float, Draw]] = []
    for documents, tokens in DESIGNS:
        for effect in (0.0, 0.03, 0.05, BOUND):
            draw = simulated(Law(), documents, tokens, effect)
            cases.append((f"{documents} x {tokens}, d = {effect:g}", effect, draw))
    if real is not None:
        for effect in (0.0, 0.03, 0.05, BOUND):
            draw = redrawn(real, real.shape[1], effect)
            cases.append((f"redrawn, {real.shape[1]} documents, d = {effect:g}", effect, draw))
    for name, effect, draw in cases:
        few = max(10, runs // 4) if name.startswith("redrawn") else runs
        rows.append((name, claims(draw, effect, few, seed)))
        _tell(name, rows[-1][1])
    text = (
        f"## Equivalence and power\n\nPer cell, uncorrected. `equivalent`: share declared equivalent "
        f"to none within {BOUND:g} at .05; where the truth is d = {BOUND:g} this is an error and must "
        "not exceed .05. `found`: share with p <= .05 by the cluster-robust t; `predicted`: the power "
        "that the cell's own design predicts for the true d.\n"
    )
    return text + "\n" + markdown("audit", rows)


def markdown(first: str, rows: list[tuple[str, dict[str, float]]]) -> str:
    names = list(rows[0][1])
    lines = [f"| {first} | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    lines += [f"| {name} | " + " | ".join(f"{v[n]:.3f}" for n in names) + " |" for name, v in rows]
    return "\n".join(lines) + "\n"


def _tell(name: str, numbers: dict[str, Any]) -> None:
    shown = ", ".join(f"{k} {v:.3f}" for k, v in numbers.items())
    print(f"[{time.strftime('%H:%M:%S')}] {name}: {shown}", file=sys.stderr, flush=True)
