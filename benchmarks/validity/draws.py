"""Simulated and redrawn audits whose truth is known, as document sums: what validity.py measures on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from moeaudit.stats import get_protocol
from moeaudit.stats.contrast.contrast import contrast_cells
from moeaudit.stats.sizes.moments import CROSS, Moments

CELLS = 20


@dataclass(frozen=True)
class Law:
    """How simulated differences are made, in units of their standard deviation.

    Sign by a fair coin, magnitude exp(sigma z): with sigma 1.15 the 90th, 99th and 99.9th centile
    of the magnitude are 4.4, 14.5 and 35 times its median, and 20,320 such tokens show a kurtosis
    of 90 (skewed: 140, with a skewness of 6). Real ones: 5.4, 15.5 and 33 in the released per-token
    data of arXiv 2606.10703 (median over 20 cells of 200); 4.6, 13.8 and 31, kurtosis 40, skewness
    0.4 in a census of tiny-olmoe on early weights and 6.7, 25 and 62, kurtosis 70, skewness 1.1 on
    later ones (median over 96 cells of 20,320 tokens). `skew` makes positive
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


def reduce(x: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """Document sums (cells, documents, 7) in the columns of `Moments`, low effects zero; of each
    document the first `lengths` tokens count (all if None)."""
    sums = np.zeros((x.shape[2], x.shape[0], CROSS + 2))
    sums[:, :, 0] = x.shape[1] if lengths is None else lengths
    if lengths is not None:
        x = np.where((np.arange(x.shape[1]) < lengths[:, None])[..., None], x, 0.0)
    sums[:, :, 1] = x.sum(axis=1).T
    sums[:, :, 3] = (x * x).sum(axis=1).T
    sums[:, :, 6] = np.sign(x).sum(axis=1).T
    return sums


Draw = Callable[[np.random.Generator], np.ndarray]  # (cells, documents, 7)


def simulated(law: Law, documents: int, tokens: int, mean: float = 0.0) -> Draw:
    return lambda rng: reduce(law.draw(rng, documents, tokens, mean))


def uneven(law: Law, documents: int, tokens: int, mean: float = 0.0) -> Draw:
    """Documents of very different lengths: log-normal with sigma 1 about `tokens`, 4 times that at most."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        lengths = np.exp(rng.standard_normal(documents) - 0.5) * tokens
        lengths = np.clip(np.round(lengths), 2, 4 * tokens).astype(int)
        return reduce(law.draw(rng, documents, int(lengths.max()), mean), lengths)

    return draw


def redrawn(sums: np.ndarray, documents: int, effect: float = 0.0) -> Draw:
    """Whole documents of a real, centred census, with replacement, moved to a known d_z."""
    n, first, second = (sums[:, :, k] for k in (0, 1, 3))
    sd = np.sqrt(second.sum(axis=1) / n.sum(axis=1))[:, None]
    moved = sums.copy()
    moved[:, :, 1] = first + effect * sd * n
    moved[:, :, 3] = second + 2 * effect * sd * first + (effect * sd) ** 2 * n
    return lambda rng: moved[:, rng.integers(0, sums.shape[1], documents)]


def described(run: Path) -> str:
    """Which model and weights a run folder is of, if it says so."""
    record = run / "audit.json"
    if not record.is_file():
        return run.name
    spec = json.loads(record.read_text(encoding="utf-8"))["spec"]
    return (
        f"{spec['model']} (weights {spec['weights'][:12]}, {len(spec['layers'])} layers, "
        f"{spec['effect_documents']} documents of up to {spec['tokens']} tokens)"
    )


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
