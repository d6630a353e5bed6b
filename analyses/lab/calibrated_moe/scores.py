"""Scores of several models of a condition, with intervals over test clusters and over seeds.

Two things vary: which documents (or images) happen to be tested on, and which seed a model was trained
from. Every model meets the same test rows, so the mean over seeds of a score has the half-width

    sqrt( (z sd_clusters)^2 + (t_{S-1} sd_seeds / sqrt(S))^2 ),

sd_clusters being the deviation of that mean when clusters are resampled within their block, sd_seeds that
of the score between seeds. Differences between conditions are formed within seed and within
resample first. Plug-in ECE is biased upward by noise and resampling adds to it, so the deviation of the
resamples is used and not their percentiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, t

from moeaudit.calibration.predictions.cells import width_bins
from moeaudit.errors import InputError
from moeaudit.seeds import generator

BINS = 15
METRICS = ("gap", "abs_gap", "ece", "accuracy", "nll")
IN_DOMAIN, WORST_SEEN, WORST_SHIFTED = "in-domain mix", "worst seen", "worst shifted"


@dataclass(frozen=True)
class Scores:
    """Metric -> (seeds, strata) and (seeds, strata, draws); the strata are those of `Sampler`."""

    value: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]

    @classmethod
    def stack(cls, parts: list[Scores]) -> Scores:
        return cls(
            {m: np.stack([p.value[m] for p in parts]) for m in METRICS},
            {m: np.stack([p.draws[m] for p in parts]) for m in METRICS},
        )


@dataclass(frozen=True)
class Limit:
    """An estimate with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        return self.low > 0 or self.high < 0


class Sampler:
    """Resampled clusters of one test set, the same for every model and stratum.

    `test` is a `TestSet` or anything with its cluster, block, stratum, weight, seen and shifted.
    """

    def __init__(self, test: Any, draws: int = 1000) -> None:
        n = len(test.block)
        if test.cluster.max() >= n or n < 2:
            raise InputError(
                "Every cluster needs a block, and there must be at least two clusters."
            )
        rng = generator(0, "clusters")
        self.counts = np.zeros((draws, n), np.float32)
        for block in np.unique(test.block):
            members = np.flatnonzero(test.block == block)
            even = np.full(len(members), 1 / len(members))
            self.counts[:, members] = rng.multinomial(len(members), even, size=draws)
        self.test = test
        weights = {IN_DOMAIN: test.weight}
        weights |= {s: (test.stratum == s).astype(float) for s in (*test.seen, *test.shifted)}
        weights["all shifted"] = np.isin(test.stratum, test.shifted).astype(float)
        self._weights = weights
        self.strata = [*weights, WORST_SEEN, WORST_SHIFTED]

    def score(self, log_probs: np.ndarray) -> Scores:
        """All metrics of one classifier; log-probabilities (rows, classes) of the rows of a `TestSet`."""
        labels = self.test.labels.numpy()
        nll = -log_probs[np.arange(len(labels)), labels]
        return self.of(np.exp(log_probs.max(1)), log_probs.argmax(1) == labels, nll)

    def of(self, confidence: np.ndarray, correct: np.ndarray, nll: np.ndarray) -> Scores:
        """All metrics of one model from what it said of each row; `nll` in nats."""
        place = width_bins(np.clip(confidence, 0, 1), BINS)
        value, draws = [], []
        for weight in self._weights.values():
            rows = np.flatnonzero(weight > 0)
            names, unit = np.unique(self.test.cluster[rows], return_inverse=True)
            w = weight[rows]
            residual = w * (confidence[rows] - correct[rows])
            columns = [w, residual, w * correct[rows], w * nll[rows]]
            sums = np.stack([np.bincount(unit, c, minlength=len(names)) for c in columns], 1)
            key = unit * BINS + place[rows]
            binned = np.bincount(key, residual, minlength=len(names) * BINS).reshape(-1, BINS)
            table = np.concatenate([sums, binned], 1).astype(np.float32)  # (clusters, 4 + bins)
            value.append(_metrics(table.sum(0, dtype=np.float64)[None])[:, 0])
            draws.append(_metrics(self.counts[:, names] @ table))
        return self._with_worst(np.stack(value, 1), np.stack(draws, 1))

    def _with_worst(self, value: np.ndarray, draws: np.ndarray) -> Scores:
        """Add the worst stratum by each metric: the largest, for accuracy the smallest."""
        names = list(self._weights)
        out_value, out_draws = {}, {}
        for k, metric in enumerate(METRICS):
            v, d = [value[k]], [draws[k]]
            for group in (self.test.seen, self.test.shifted):
                rows = [names.index(s) for s in group]
                v.append(_worst(metric, value[k, rows, None]))
                d.append(_worst(metric, draws[k, rows])[None])
            out_value[metric] = np.concatenate(v)
            out_draws[metric] = np.concatenate(d)
        return Scores(out_value, out_draws)


def _metrics(sums: np.ndarray) -> np.ndarray:
    """(metrics, draws) from (draws, 4 + bins): weight, residual, correct, nll, residual by bin."""
    n = sums[:, 0]
    gap = sums[:, 1] / n
    ece = np.abs(sums[:, 4:]).sum(1) / n
    return np.stack([gap, np.abs(gap), ece, sums[:, 2] / n, sums[:, 3] / n])


def _worst(metric: str, values: np.ndarray) -> np.ndarray:
    if metric == "gap":  # the worst stratum's sign changes from seed to seed; abs_gap has its size
        return np.full(values.shape[1:], np.nan)
    return values.min(0) if metric == "accuracy" else values.max(0)


def limits(value: np.ndarray, draws: np.ndarray, level: float = 0.95) -> Limit:
    """The mean over seeds of (seeds,) with its interval from (seeds, draws); see the module."""
    seeds = len(value)
    tail = (1 + level) / 2
    by_cluster = norm.ppf(tail) * draws.mean(0).std(ddof=1)
    by_seed = t.ppf(tail, seeds - 1) * value.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
    mean, half = float(value.mean()), float(np.hypot(by_cluster, by_seed))
    return Limit(mean, mean - half, mean + half)


def difference(a: Scores, b: Scores, metric: str, stratum: int) -> Limit:
    """a - b, paired by seed and by resample."""
    return limits(
        a.value[metric][:, stratum] - b.value[metric][:, stratum],
        a.draws[metric][:, stratum] - b.draws[metric][:, stratum],
    )


def remaining(
    raw: tuple[Scores, Scores], after: tuple[Scores, Scores], metric: str, stratum: int
) -> Limit | None:
    """What share of the difference `raw` is left in `after`; None if `raw` is not a decided gain.

    A ratio of means, its interval by linearisation: that of (after - share * raw) over |raw|.
    """
    first = difference(*raw, metric, stratum)
    if not first.decided or first.value > 0:
        return None
    share = difference(*after, metric, stratum).value / first.value

    def part(name: str) -> np.ndarray:
        (a, b), (c, d) = (
            tuple(getattr(s, name)[metric][:, stratum] for s in p) for p in (after, raw)
        )
        return a - b - share * (c - d)

    rest = limits(part("value"), part("draws"))
    half = (rest.high - rest.low) / 2 / abs(first.value)
    return Limit(share, share - half, share + half)
