"""Do the statistics hold what they promise? Simulated audits whose truth is known.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/validity.py --out docs/methods/validity.md

Effects are drawn clustered by document, with tails as heavy as real ones and cells that share tokens
(`Law`); `--run FOLDER` adds audits redrawn, document by document, from the census of a finished run
(`moeaudit audit tiny-olmoe --out FOLDER`), its cells centred so that no metric predicts
anything. `--quick` runs a tenth of everything.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from moeaudit.stats import equivalence, families, get_protocol, power
from moeaudit.stats.bootstrap import (
    bca_limits,
    document_weights,
    leave_one_out,
    percentile_limits,
)
from moeaudit.stats.contrast import contrast_cells
from moeaudit.stats.maxt import max_t
from moeaudit.stats.moments import CROSS, Moments, d_z, influence, weighted

CELLS = 20
LEVEL = 0.95
BOUND = 0.1


@dataclass(frozen=True)
class Law:
    """How simulated differences are made, in units of their standard deviation.

    Sign by a fair coin, magnitude exp(sigma z): with sigma 1.15 the 90th, 99th and 99.9th centile
    of the magnitude are 4.4, 14.5 and 35 times its median. Real ones: 4.6, 13.8 and 31.8 in a census
    of a bundled model (median over 96 cells of 20,320 tokens), 5.4, 15.5 and 33 in the released
    per-token data of arXiv 2606.10703 (median over 20 cells of 200). `skew` makes positive
    differences heavier and negative ones lighter, keeping the mean at zero; `icc` is the share of
    variance between documents (0.004 in that census, design effect 1.45), `hetero` the spread of
    documents' log scales (0.3), `shared` the correlation of cells.
    """

    sigma: float = 1.15
    skew: float = 0.0
    icc: float = 0.005
    hetero: float = 0.3
    shared: float = 0.3

    def draw(
        self, rng: np.random.Generator, documents: int, tokens: int, mean: float
    ) -> np.ndarray:
        """Differences (documents, tokens, cells) with unit variance and the given mean."""
        shape = (documents, tokens, CELLS)
        z = np.sqrt(self.shared) * rng.standard_normal((documents, tokens, 1), dtype=np.float32)
        z = z + np.sqrt(1 - self.shared) * rng.standard_normal(shape, dtype=np.float32)
        up = rng.random(shape, dtype=np.float32) < 0.5
        heavy, light = self.sigma * (1 + self.skew), self.sigma * (1 - self.skew)
        x = np.where(up, np.exp(heavy * z), -np.exp(light * z))
        centre = (np.exp(heavy**2 / 2) - np.exp(light**2 / 2)) / 2
        x = (x - centre) / np.sqrt((np.exp(2 * heavy**2) + np.exp(2 * light**2)) / 2 - centre**2)
        x *= np.exp(self.hetero * rng.standard_normal((documents, 1, 1)) - self.hetero**2)
        own, common = (
            rng.standard_normal((documents, 1, CELLS)),
            rng.standard_normal((documents, 1, 1)),
        )
        return mean + np.sqrt(1 - self.icc) * x + np.sqrt(self.icc / 2) * (own + common)


def reduce(x: np.ndarray) -> np.ndarray:
    """Document sums (cells, documents, 7) in the columns of `Moments`, low effects zero."""
    sums = np.zeros((x.shape[2], x.shape[0], CROSS + 2))
    sums[:, :, 0] = x.shape[1]
    sums[:, :, 1] = x.sum(axis=1).T
    sums[:, :, 3] = (x * x).sum(axis=1).T
    sums[:, :, 6] = np.sign(x).sum(axis=1).T
    return sums


Draw = Callable[[np.random.Generator], np.ndarray]  # (cells, documents, 7)


def simulated(law: Law, documents: int, tokens: int, mean: float = 0.0) -> Draw:
    return lambda rng: reduce(law.draw(rng, documents, tokens, mean))


def redrawn(sums: np.ndarray, documents: int, effect: float = 0.0) -> Draw:
    """Whole documents of a real, centred census, with replacement, moved to a known d_z."""
    n, first, second = (sums[:, :, k] for k in (0, 1, 3))
    sd = np.sqrt(second.sum(axis=1) / n.sum(axis=1))[:, None]
    moved = sums.copy()
    moved[:, :, 1] = first + effect * sd * n
    moved[:, :, 3] = second + 2 * effect * sd * first + (effect * sd) ** 2 * n
    return lambda rng: moved[:, rng.integers(0, sums.shape[1], documents)]


def real_census(run: Path, outcome: str) -> tuple[np.ndarray, dict[str, float]]:
    """Document sums of every metric cell of a run's census, centred to d = 0, and what its tails are."""
    cells, n_documents = contrast_cells(
        pd.concat([pd.read_parquet(f) for f in sorted((run / "effects").glob("*.parquet"))]),
        pd.read_parquet(run / "experts.parquet"),
        get_protocol("moeaudit"),
        outcome=outcome,
        controls=("random",),
        layers=None,
        seed=0,
    )
    kept, tails = [], []
    for cell in cells:
        if cell.role != "metric" or cell.reason is not None:
            continue
        d = cell.difference - cell.difference.mean()
        count = np.bincount(cell.document, minlength=n_documents)
        first = np.bincount(cell.document, d, n_documents)
        sums = np.zeros((n_documents, CROSS + 2))
        sums[:, 0], sums[:, 1] = count, first
        sums[:, 3] = np.bincount(cell.document, d * d, n_documents)
        sums[:, 6] = np.bincount(cell.document, np.sign(d), n_documents)
        kept.append(sums)
        q = np.quantile(np.abs(cell.difference), [0.5, 0.9, 0.99, 0.999])
        effect = float((first**2).sum() / (d.var() * len(d)))
        tails.append((*(q[1:] / max(q[0], 1e-12)), stats.kurtosis(d), stats.skew(d), effect))
    names = ("q90/q50", "q99/q50", "q999/q50", "kurtosis", "skewness", "design effect")
    return np.stack(kept), dict(zip(names, np.median(tails, axis=0)))


def cells_of(sums: np.ndarray) -> Iterator[Moments]:
    """Each cell as `Moments`, centred at its mean as the package's own reduction does."""
    for s in sums:
        n, mean = s[:, 0], s[:, 1].sum() / s[:, 0].sum()
        c = s.copy()
        c[:, 1] = s[:, 1] - mean * n
        c[:, 3] = s[:, 3] - 2 * mean * s[:, 1] + mean**2 * n
        yield Moments(c, (float(mean), 0.0))


def p_token(sums: np.ndarray) -> np.ndarray:
    """Paired t by token, from sums."""
    n, first, second = (sums[:, :, k].sum(axis=1) for k in (0, 1, 3))
    t = first / n / np.sqrt((second / n - (first / n) ** 2) / (n - 1))
    return 2 * stats.t.sf(np.abs(t), n - 1)


def p_cluster(sums: np.ndarray) -> np.ndarray:
    n, first = sums[:, :, 0], sums[:, :, 1]
    d = (n > 0).sum(axis=1)
    mean = first.sum(axis=1) / n.sum(axis=1)
    u = first - mean[:, None] * n
    se = np.sqrt(d / (d - 1) * (u**2).sum(axis=1)) / n.sum(axis=1)
    return 2 * stats.t.sf(np.abs(mean / se), d - 1)


def family_wise(draw: Draw, runs: int, seed: int, flips: int) -> dict[str, float]:
    """Share of audits with any false claim at .05, and of single cells by token and by document."""
    rng = np.random.default_rng(seed)
    hits = np.zeros(7)
    for run in range(runs):
        sums = draw(rng)
        first = sums[:, :, 1].T.copy()
        flipped = max_t(first, n_flips=flips, seed=run)
        plain = max_t(first, n_flips=flips, seed=run, statistic="t")
        token, cluster = p_token(sums), p_cluster(sums)
        hits += (
            np.nanmin(flipped.p_maxt) <= 0.05,
            np.nanmin(plain.p_maxt) <= 0.05,
            families.adjust(cluster, "holm").min() <= 0.05,
            families.adjust(token, "bonferroni").min() <= 0.05,
            np.mean(flipped.p_flip <= 0.05),
            np.mean(cluster <= 0.05),
            np.mean(token <= 0.05),
        )
    names = ("max-T", "max-T of plain t", "cluster t, Holm", "token t, Bonferroni")
    names = (*names, "flip", "cluster t", "token t")
    return dict(zip(names, hits / runs))


def coverage(draw: Draw, truth: np.ndarray, runs: int, seed: int, n_boot: int) -> dict[str, float]:
    """Share of 95 % intervals of d_z that hold the truth, cell by cell."""
    rng = np.random.default_rng(seed)
    hits: dict[str, list[bool]] = {}
    weights = np.empty((0, 0))
    for _ in range(runs):
        for m, true in zip(cells_of(draw(rng)), truth):
            if len(weights) == 0:
                weights = document_weights(len(m.sums), n_boot, seed)
            for name, (low, high) in limits(m, weights).items():
                hits.setdefault(name, []).append(bool(low <= true <= high))
    return {name: float(np.mean(x)) for name, x in hits.items()}


def limits(m: Moments, weights: np.ndarray) -> dict[str, tuple[float, float]]:
    d = m.n_documents
    estimate = float(d_z(weighted(m))[0])
    left = d_z(weighted(m, leave_one_out(m.present)))
    draws = d_z(weighted(m, weights))
    t, z = stats.t.isf((1 - LEVEL) / 2, d - 1), stats.norm.isf((1 - LEVEL) / 2)
    reach = {
        "jackknife": t * np.sqrt((d - 1) / d * ((left - left.mean()) ** 2).sum()),
        "cluster": t * np.sqrt(d / (d - 1) * (influence(m, "d_z") ** 2).sum()),
        "token": z * np.sqrt(1 / m.n + estimate**2 / (2 * m.n)),
    }
    out = {name: (estimate - r, estimate + r) for name, r in reach.items()}
    out["percentile"] = percentile_limits(draws)
    out["bca"] = bca_limits(estimate, draws, left)
    return out


def claims(draw: Draw, truth: float, runs: int, seed: int) -> dict[str, float]:
    """TOST claims, and tests of one cell at .05 with the power predicted for them."""
    rng = np.random.default_rng(seed)
    absent, found, predicted = [], [], []
    for _ in range(runs):
        for m in cells_of(draw(rng)):
            d, estimate = m.n_documents, float(d_z(weighted(m))[0])
            left = d_z(weighted(m, leave_one_out(m.present)))
            se = float(np.sqrt((d - 1) / d * ((left - left.mean()) ** 2).sum()))
            absent.append(equivalence.tost(estimate, se, d - 1, BOUND).p <= 0.05)
            u = influence(m, "mean_difference")
            sd = float(np.sqrt(weighted(m).var_difference[0]))
            null_se = float(np.sqrt(d / (d - 1) * (u**2).sum())) / sd
            t = weighted(m).difference[0] / sd / null_se
            found.append(2 * stats.t.sf(abs(t), d - 1) <= 0.05)
            predicted.append(power.power_t(truth, null_se, float(d - 1), 0.05))
    return {
        "equivalent": float(np.mean(absent)),
        "found": float(np.mean(found)),
        "predicted": float(np.mean(predicted)),
    }


def main(arguments: list[str] | None = None) -> int:
    from validity_page import report

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the Markdown page to write")
    parser.add_argument("--runs", type=int, default=2000, help="audits per family-wise figure")
    parser.add_argument("--run", type=Path, help="folder of a finished audit to redraw from")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    runs = options.runs // 10 if options.quick else options.runs
    start = time.perf_counter()
    page = report(runs, options.seed, options.run)
    page += f"\nWall time {time.perf_counter() - start:.0f} s.\n"
    options.out.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
