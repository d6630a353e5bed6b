"""Does the interval of a rank correlation with noisy harm hold the correlation with the harm itself?

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/attenuation.py --runs 400 \
        --out docs/methods/attenuation.md

Experts have a true harm; a metric correlates with it; documents show the harm with Student-t noise of
a set reliability. Shown: share of 95 % intervals that hold the true Spearman correlation, for the
plain percentile bootstrap and for the one corrected by the split-half reliability of the same data. Then
the ceiling: share of its intervals that hold what other documents of the same kind would give.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from moeaudit.stats.ranking.attenuation import Attenuation
from moeaudit.stats.ranking.correlation import paired_spearman, spearman_rows
from moeaudit.stats.ranking.harm import Harm
from moeaudit.stats.ranking.reliability import attenuation, reliability
from moeaudit.stats.sizes.bootstrap import document_weights

DOCUMENTS = 100


def coverage(experts: int, true_reliability: float, strength: float, runs: int) -> np.ndarray:
    """Coverage of the plain and of the corrected interval."""
    rng = np.random.default_rng(0)
    weights = document_weights(DOCUMENTS, 500, 1)
    ones = np.ones((DOCUMENTS, experts))
    hits = np.zeros(2)
    for run in range(runs):
        harm = rng.normal(size=experts)
        metric = strength * harm + np.sqrt(1 - strength**2) * rng.normal(size=experts)
        spread = np.sqrt((1 - true_reliability) / true_reliability * DOCUMENTS / 2)
        seen = harm + spread * rng.standard_t(4, size=(DOCUMENTS, experts))
        truth = stats.spearmanr(metric, harm).statistic
        draws = spearman_rows(metric[None], weights @ seen / DOCUMENTS)[:, 0]
        data = Harm(run, np.arange(experts), seen, ones, ones[:, 0], 0, "active_token")
        corrected = Attenuation(reliability(data, 0, 60)).true_limits(draws, 0.95)
        plain = np.quantile(draws, [0.025, 0.975])
        hits += [low <= truth <= high for low, high in (plain, corrected)]
    return hits / runs


def ceilings(experts: int, true_reliability: float, runs: int) -> tuple[float, float]:
    """Coverage and median width of the interval of the ceiling. Its truth is the root of the mean agreement
    of two independent sets of documents, by 100 pairs of such sets."""
    rng = np.random.default_rng(1)
    ones = np.ones((DOCUMENTS, experts))
    spread = np.sqrt((1 - true_reliability) / true_reliability * DOCUMENTS / 2)
    hits, widths = 0, []
    for run in range(runs):
        harm = rng.normal(size=experts)

        def seen(sets: int, harm: np.ndarray = harm) -> np.ndarray:
            return harm + spread * rng.standard_t(4, size=(sets, DOCUMENTS, experts))

        agreement = paired_spearman(seen(100).mean(axis=1), seen(100).mean(axis=1)).mean()
        data = Harm(run, np.arange(experts), seen(1)[0], ones, ones[:, 0], 0, "active_token")
        low, high = attenuation(data, 0, n_splits=60).ceiling_limits
        hits += bool(low <= np.sqrt(max(agreement, 0.0)) <= high)
        widths.append(high - low)
    return hits / runs, float(np.median(widths))


CEILINGS = """
## The ceiling has an interval, too

`ceiling_low` to `ceiling_high` leave out groups of documents (a bootstrap would put one document into both
halves). Share of {runs} intervals that hold the ceiling that other documents of the same kind would give, and
their median width. The ceiling is an estimate: a metric may be seen above it, and then the table and the page say so.

| experts | reliability | holds the ceiling | median width |
| ---: | ---: | ---: | ---: |
"""

PAGE = """# Intervals of a rank correlation with noisy harm

Made by

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/attenuation.py --runs {runs} --out docs/methods/attenuation.md

Share of {runs} simulated 95 % intervals that hold the Spearman correlation of a metric with the *true*
harm of experts, when the harm is seen through noise ({documents} documents, Student t with 4 degrees of
freedom) at the given reliability. `plain percentile` is the ordinary document bootstrap; `corrected`
is `rho_true_low` to `rho_true_high` of `expert_harm`, with the reliability estimated from halves of the
same data. One standard error near .95 is .011.

| experts | reliability | true correlation | plain percentile | corrected |
| ---: | ---: | ---: | ---: | ---: |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--out", type=Path, required=True, help="the Markdown page to write")
    options = parser.parse_args()
    page = PAGE.format(runs=options.runs, documents=DOCUMENTS)
    for experts in (16, 32, 64):
        for true_reliability in (0.5, 0.75, 0.95):
            for strength in (0.0, 0.6):
                a, b = coverage(experts, true_reliability, strength, options.runs)
                row = f"| {experts} | {true_reliability} | {strength} | {a:.3f} | {b:.3f} |\n"
                print(row, end="", flush=True)
                page += row
    page += CEILINGS.format(runs=options.runs)
    for experts in (16, 32, 64):
        for true_reliability in (0.5, 0.75, 0.95):
            held, width = ceilings(experts, true_reliability, options.runs)
            row = f"| {experts} | {true_reliability} | {held:.3f} | {width:.2f} |\n"
            print(row, end="", flush=True)
            page += row
    options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
