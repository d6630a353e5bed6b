"""The scenarios of benchmarks/validity and the page they become."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .draws import CELLS, Draw, Law, described, real_census, redrawn, simulated, uneven
from .measures import BOUND, claims, coverage, family_wise
from .picture import picture

# Documents x tokens of each. The first has fewer documents than the table gives without a caution.
DESIGNS = ((12, 64), (25, 8), (25, 64), (50, 64), (150, 64))
UNEVEN = ((25, 64), (50, 64))
REDRAWN = (25, 50, 100)
SKEWS = (0.0, 0.1)
FLIPS = 499
BOOTSTRAPS = 300
AIMS = {"max-T": (0.035, 0.065), "adjusted": (0.93, 0.97), "equivalent": (0.0, 0.05)}
BEGIN, END = (
    "<!-- made by benchmarks.validity: begin -->",
    "<!-- made by benchmarks.validity: end -->",
)
INTRO = """# What the statistics do when the truth is known

Made by

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity --run FOLDER --out docs/methods/validity.md

which simulates whole audits: 20 cells that share tokens, differences clustered by document, with
tails as heavy as real ones (the class `Law` of `benchmarks/validity/draws.py` gives the recipe and what
it was fitted to). *Skewed* audits have a mean of zero with a heavier positive than negative tail;
*uneven* ones have documents of very different lengths. *Redrawn* audits take whole documents from the
census of a finished run (`FOLDER`, of `moeaudit audit MODEL --out FOLDER`), whose cells were centred so
that nothing predicts anything; their tails, clusters and dependence between cells are nobody's
assumption. `12 x 64` means 12 documents of 64 tokens; so few are marked by a `caution` in every table,
and `few.too_few` withholds verdicts by its own limits (below; nothing is withheld in this part).

![False claims and coverage by method](validity.svg)
"""


def report(runs: int, seed: int, run: Path | None, figure: Path) -> str:
    """Run everything, draw the figure and return the page."""
    real, parts = None, [INTRO]
    if run is not None:
        real, tails = real_census(run, "delta_nll")
        seen = ", ".join(f"{name} {value:.2f}" for name, value in tails.items())
        parts.append(
            f"The census redrawn from: {described(run)}; {real.shape[0]} cells, "
            f"{int(real[0, :, 0].sum()):,} tokens; medians over cells of the differences: {seen}.\n"
        )
    few = max(20, runs // 12)
    false = wrong_claims(real, runs, seed)
    cover = intervals(real, few, seed)
    claim = verdict_claims(real, few, seed)
    parts.append(outside(false, cover, claim))
    parts.append(
        f"## False claims\n\nShare of {runs} audits without any effect in which at least one of the "
        "cells is called an effect at .05 (first four columns; max-T is what verdicts use), and share "
        "of single cells with p <= .05 (last three). One standard error near .05 is "
        f"{(0.05 * 0.95 / runs) ** 0.5:.3f}.\n\n" + markdown("audit", false)
    )
    parts.append(
        f"## Intervals\n\nShare of 95 % intervals of d_z that hold the truth ({few} audits, every "
        "cell). `adjusted` is the default; `token` is the interval of the "
        "literature.\n\n" + markdown("audit", cover)
    )
    parts.append(
        f"## Equivalence and power\n\nPer cell, uncorrected. `equivalent`: share declared equivalent to "
        f"none within {BOUND:g} at .05; where the truth is d = {BOUND:g} or -{BOUND:g} this is an error "
        "and must not exceed .05. `found`: share with p <= .05, by document sign-flips (what verdicts "
        "use) and by the cluster-robust t; `predicted`: the power that the cell's own design predicts "
        "for an effect of that size, whichever its sign.\n\n" + markdown("audit", claim)
    )
    figure.write_text(picture(false, cover), encoding="utf-8")
    return "\n".join(parts)


def placed(page: str, old: str | None) -> str:
    """The page between its marks, and whatever stands around them in an `old` page.

    Raises ValueError for an old page without both marks, which would be lost.
    """
    made = f"{BEGIN}\n{page.strip()}\n{END}\n"
    if old is None:
        return made
    before, begun, rest = old.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(
            f"The page that is there has no marks {BEGIN} and {END}, so what was written by hand cannot be told "
            "from what was made. Put them around what may be replaced, or name another file."
        )
    return before + made + after.removeprefix("\n")


Rows = list[tuple[str, dict[str, float]]]


def wrong_claims(real: np.ndarray | None, runs: int, seed: int) -> Rows:
    cases = [(_name(d, t, k), simulated(Law(skew=k), d, t)) for d, t in DESIGNS for k in SKEWS]
    cases += [(_name(d, t, 0.1, True), uneven(Law(skew=0.1), d, t)) for d, t in UNEVEN]
    if real is not None:
        cases += [(f"redrawn, {d} documents", redrawn(real, d)) for d in _sizes(real)]
    return _told(cases, lambda draw, _: family_wise(draw, runs, seed, FLIPS))


def intervals(real: np.ndarray | None, runs: int, seed: int) -> Rows:
    cases: list[tuple[str, Draw, float]] = []
    for d, t in DESIGNS:
        for skew in SKEWS:
            for effect in (0.0, 0.1, 0.2, *((-0.2,) if skew else ())):
                draw = simulated(Law(skew=skew), d, t, effect)
                cases.append((f"{_name(d, t, skew)}, d = {effect:g}", draw, effect))
    for d, t in UNEVEN:
        for effect in (0.0, 0.2):
            draw = uneven(Law(skew=0.1), d, t, effect)
            cases.append((f"{_name(d, t, 0.1, True)}, d = {effect:g}", draw, effect))
    rows = _told(
        [(n, (d, e)) for n, d, e in cases],
        lambda x, _: coverage(x[0], np.full(CELLS, x[1]), runs, seed, BOOTSTRAPS),
    )
    if real is None:
        return rows
    again = [
        (f"redrawn, {d} documents, d = {e:g}", (redrawn(real, d, e), e))
        for d in _sizes(real)
        for e in (0.0, 0.1, 0.2)
    ]
    n = len(real)
    return rows + _told(
        again, lambda x, _: coverage(x[0], np.full(n, x[1]), runs, seed, BOOTSTRAPS)
    )


def verdict_claims(real: np.ndarray | None, runs: int, seed: int) -> Rows:
    cases: list[tuple[str, tuple[Draw, float, int]]] = []
    for d, t in DESIGNS:
        for skew in SKEWS:
            for effect in (0.0, 0.03, 0.05, BOUND, *((-0.05, -BOUND) if skew else ())):
                draw = simulated(Law(skew=skew), d, t, effect)
                cases.append((f"{_name(d, t, skew)}, d = {effect:g}", (draw, effect, runs)))
    if real is not None:
        for d in _sizes(real):
            for effect in (0.0, 0.03, 0.05, BOUND, -BOUND):
                name = f"redrawn, {d} documents, d = {effect:g}"
                cases.append((name, (redrawn(real, d, effect), effect, runs)))
    return _told(cases, lambda x, _: claims(x[0], abs(x[1]), x[2], seed, FLIPS))


def outside(false: Rows, cover: Rows, claim: Rows) -> str:
    """What missed its aim, by name; the rest met it."""
    text = [
        "## What was aimed at, and what missed it\n",
        "With at least 25 documents: false claims .035 to .065, coverage 93 to 97 %, wrong equivalence "
        "at most .05, power within 3 points of predicted. Whatever lies beyond is named, also where it "
        "is within the noise of the simulation (about 1 point for power and coverage).\n",
    ]
    for title, rows, key in (
        ("false claims", false, "max-T"),
        ("coverage", cover, "adjusted"),
        ("wrong equivalence", [r for r in claim if _at_bound(r[0])], "equivalent"),
    ):
        low, high = AIMS[key]
        missed = [(n, v[key]) for n, v in rows if not _tiny(n) and not low <= v[key] <= high]
        text.append(_line(title, len([1 for n, _ in rows if not _tiny(n)]), missed))
    gaps = [
        (n, v["found, flips"] - v["predicted"])
        for n, v in claim
        if not _tiny(n) and abs(v["found, flips"] - v["predicted"]) > 0.03
    ]
    total = len([1 for n, _ in claim if not _tiny(n)])
    text.append(_line("power (found less predicted)", total, gaps))
    return "\n".join(text) + "\n"


def _line(title: str, total: int, missed: list[tuple[str, float]]) -> str:
    if not missed:
        return f"- {title}: all {total} met."
    return f"- {title}: {total - len(missed)} of {total} met; not " + "; ".join(
        f"{n} ({v:+.3f})" if "power" in title else f"{n} ({v:.3f})" for n, v in missed
    ) + "."  # fmt: skip


def _at_bound(name: str) -> bool:
    return name.endswith((f"d = {BOUND:g}", f"d = -{BOUND:g}"))


def _tiny(name: str) -> bool:
    return name.startswith("12 x")


def _name(documents: int, tokens: int, skew: float, odd: bool = False) -> str:
    kind = "skewed" if skew else "symmetric"
    return f"{documents} x {tokens}, {kind}" + (", uneven" if odd else "")


def _sizes(real: np.ndarray) -> tuple[int, ...]:
    return (*[d for d in REDRAWN if d < real.shape[1]], real.shape[1])


def _told(cases: list[tuple[str, Any]], measure: Any) -> Rows:
    """Measure every case, saying so on the error stream."""
    rows = []
    for name, case in cases:
        rows.append((name, measure(case, name)))
        shown = ", ".join(f"{k} {v:.3f}" for k, v in rows[-1][1].items())
        print(f"[{time.strftime('%H:%M:%S')}] {name}: {shown}", file=sys.stderr, flush=True)
    return rows


def markdown(first: str, rows: Rows) -> str:
    names = list(rows[0][1])
    lines = [f"| {first} | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    lines += [f"| {name} | " + " | ".join(f"{v[n]:.3f}" for n in names) + " |" for name, v in rows]
    return "\n".join(lines) + "\n"
