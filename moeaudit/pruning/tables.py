"""From document sums to tables: what pruning costs, and whether the criterion matters.

Documents are resampled, the same ones for every pruned model, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.seeds import generator
from moeaudit.stats.sizes.bootstrap import document_weights

from .choose import Banned
from .evaluate import DocumentSums

CELL = ["scope", "depth", "keep"]
RANDOM = "random"


@dataclass(frozen=True)
class Resampled:
    """Bootstrap replicates over documents; row 0 of `weights` is the data itself."""

    sums: DocumentSums
    weights: Float[np.ndarray, "sets documents"]
    seed: int
    level: float

    @classmethod
    def of(cls, sums: DocumentSums, n_boot: int, seed: int, level: float) -> Resampled:
        n = len(sums.document)
        weights = np.vstack([np.ones((1, n)), document_weights(n, n_boot, seed)])
        return cls(sums, weights, seed, level)

    def mean(self, total: Float[np.ndarray, "... documents"]) -> Float[np.ndarray, "sets ..."]:
        """Mean over tokens under each set of document weights."""
        below = self.weights @ self.sums.count
        above = self.weights @ np.moveaxis(np.atleast_2d(total), -1, 0)
        return above / below[:, None]

    def limits(self, replicates: np.ndarray) -> np.ndarray:
        """Percentile limits (2, ...) of replicates whose row 0 is the estimate."""
        tail = (1 - self.level) / 2
        return np.quantile(replicates[1:], [tail, 1 - tail], axis=0)

    def drawn(self, draws: int) -> Float[np.ndarray, "sets draws"]:
        """Weights of random draws, resampled with the documents: draws are a sample as well."""
        rng = generator(self.seed, "pruning draws")
        sets = len(self.weights) - 1
        drawn = rng.multinomial(draws, np.full(draws, 1 / draws), size=sets) / draws
        return np.vstack([np.full((1, draws), 1 / draws), drawn])


def cost_table(keys: pd.DataFrame, banned: Sequence[Banned], boot: Resampled) -> pd.DataFrame:
    """One row for each pruned model: NLL, perplexity, KL, their intervals, and against random.

    `keys` has criterion, draw, scope, depth, keep; `banned` the experts that each model lacks.
    """
    nll, kl = boot.mean(boot.sums.nll), boot.mean(boot.sums.kl)  # (sets, models)
    clean = boot.mean(boot.sums.clean)  # (sets, 1)
    table: Any = keys.copy()
    table["dropped"] = [sum(map(len, each.values())) for each in banned]
    table["nll"], table["ppl"] = nll[0], np.exp(nll[0])
    table["nll_low"], table["nll_high"] = boot.limits(nll)
    table["d_nll"] = (nll - clean)[0]
    table["low"], table["high"] = boot.limits(nll - clean)
    table["kl"] = kl[0]
    table["kl_low"], table["kl_high"] = boot.limits(kl)
    against = ["vs_random", "vs_random_low", "vs_random_high", "better_than_random"]
    table[against] = np.nan
    for _, cell in table.groupby(CELL, sort=False):
        rows = cell.index.to_numpy()
        is_random = (cell["criterion"] == RANDOM).to_numpy()
        if not is_random.any() or is_random.all():
            continue
        draws, others = rows[is_random], rows[~is_random]
        baseline = (nll[:, draws] * boot.drawn(len(draws))).sum(1, keepdims=True)
        difference = nll[:, others] - baseline
        table.loc[others, "vs_random"] = difference[0]
        low, high = boot.limits(difference)
        table.loc[others, "vs_random_low"], table.loc[others, "vs_random_high"] = low, high
        beaten = (nll[0, draws][None] > nll[0, others][:, None]).mean(1)
        table.loc[others, "better_than_random"] = beaten
    return table


def random_band(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Mean, central `level` band and range of d_nll over random draws, for each cell."""
    draws: Any = table[table["criterion"] == RANDOM]
    tail = (1 - level) / 2
    rows = []
    for cell, group in draws.groupby(CELL, sort=False):
        d = group["d_nll"].to_numpy()
        low, high = np.quantile(d, [tail, 1 - tail])
        rows.append((*cell, len(d), d.mean(), d.std(ddof=1), low, high, d.min(), d.max()))
    columns = [*CELL, "draws", "mean", "sd", "low", "high", "least", "most"]
    return pd.DataFrame(rows, columns=columns)


def pairwise(table: pd.DataFrame, banned: Sequence[Banned], boot: Resampled) -> pd.DataFrame:
    """Differences of NLL between all pairs of criteria, with simultaneous intervals in each cell.

    The limits are difference +- c x bootstrap standard error, c the `level` quantile of the largest
    standardised deviation over the cell's pairs, so that all of a cell's intervals hold at once.
    `shared` is the Jaccard overlap of the experts that the two drop.
    """
    nll = boot.mean(boot.sums.nll)
    rows: list[tuple] = []
    criteria: Any = table[table["criterion"] != RANDOM]
    for cell, group in criteria.groupby(CELL, sort=False):
        pairs = list(combinations(group.index.tolist(), 2))
        if not pairs:
            continue
        a, b = np.array(pairs).T
        difference = nll[:, a] - nll[:, b]  # (sets, pairs)
        error = difference[1:].std(axis=0, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = np.abs(difference[1:] - difference[0]) / error
        largest = np.nan_to_num(deviation, nan=0.0, posinf=0.0).max(axis=1)
        c = float(np.quantile(largest, boot.level))
        for i, (first, second) in enumerate(pairs):
            names = table.loc[[first, second], "criterion"].tolist()
            d, half = difference[0, i], c * error[i]
            shared = overlap(banned[first], banned[second])
            rows.append((*cell, *names, d, d - half, d + half, shared))
    columns = [*CELL, "a", "b", "difference", "low", "high", "shared"]
    return pd.DataFrame(rows, columns=columns)


def overlap(a: Banned, b: Banned) -> float:
    """Jaccard overlap of two sets of dropped experts; 1 if neither drops any."""
    one = {(layer, e) for layer, gone in a.items() for e in gone}
    two = {(layer, e) for layer, gone in b.items() for e in gone}
    return len(one & two) / len(one | two) if one | two else 1.0


def interchangeability(
    table: pd.DataFrame, pairs: pd.DataFrame, *, margin: float, seed: int
) -> pd.DataFrame:
    """For each cell: is the choice of criterion worth more than a draw of lots?

    `spread` is the range of NLL over the criteria; `spread_random` the mean range of as many random
    draws, `above_random` the share of such sets of draws whose range is smaller than `spread`.
    `gain` is random's mean NLL minus the criteria's mean. `differ` counts the pairs whose
    simultaneous interval excludes 0, `within` those whose interval lies inside +-`margin` nats.
    """
    rng = generator(seed, "pruning spread")
    rows = []
    for cell, group in _cells(table):
        random = group.loc[group["criterion"] == RANDOM, "nll"].to_numpy()
        criteria = group[group["criterion"] != RANDOM]
        if len(criteria) < 2:
            continue
        nll = criteria["nll"].to_numpy()
        here: Any = pairs
        for name, value in zip(CELL, cell):
            here = here[here[name] == value]
        spread = float(np.ptp(nll))
        expected = above = gain = np.nan
        if len(random) >= len(nll):
            sets = [rng.choice(random, len(nll), replace=False) for _ in range(2000)]
            ranges = np.array([np.ptp(each) for each in sets])
            expected, above = float(ranges.mean()), float((ranges < spread).mean())
        if len(random):
            gain = float(random.mean() - nll.mean())
        differ = int(((here["low"] > 0) | (here["high"] < 0)).sum())
        within = int(((here["low"] > -margin) & (here["high"] < margin)).sum())
        verdict = (
            "interchangeable"
            if within == len(here)
            else "not interchangeable"
            if differ
            else "undecided"
        )
        best = criteria.loc[criteria["nll"].idxmin(), "criterion"]
        worst = criteria.loc[criteria["nll"].idxmax(), "criterion"]
        cost = float(criteria["d_nll"].mean())
        rows.append(
            (*cell, cost, spread, expected, above, gain, len(here), differ, within, best, worst)
            + (verdict,)
        )
    names = [
        "d_nll",
        "spread",
        "spread_random",
        "above_random",
        "gain",
        "pairs",
        "differ",
        "within",
    ]
    return pd.DataFrame(rows, columns=[*CELL, *names, "best", "worst", "verdict"])


def _cells(table: Any) -> Any:
    return table.groupby(CELL, sort=False)
