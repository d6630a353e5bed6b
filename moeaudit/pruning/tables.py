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
from moeaudit.stats.families.families import adjust
from moeaudit.stats.sizes.bootstrap import document_weights

from .asked import RANDOM
from .choose import Banned
from .claims import (
    CLAIMS,
    SAID,
    against_random,
    few_each,
    judged,
    left_over,
    of_spread,
    p_pair,
    p_spread,
    simultaneous,
)
from .evaluate import DocumentSums

CELL = ["scope", "depth", "keep"]
NO_DRAWS = "no random choices were drawn (draws = 0)"


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


def cost_table(
    keys: pd.DataFrame, banned: Sequence[Banned], boot: Resampled, margin: float | int = 0.01
) -> pd.DataFrame:
    """One row for each pruned model: NLL, perplexity, KL, their intervals, and against random.

    `keys` has criterion, draw, scope, depth, keep; `banned` the experts that each model lacks. The claims
    against random draws (`claims.against_random`) are of the gain, -vs_random, held against `margin`. `reason`
    says why a row has none.
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
    table[[*against, *CLAIMS]] = np.nan
    table[[*SAID, "reason"]] = None
    table.loc[table["criterion"] == RANDOM, "reason"] = "a random choice itself"
    for _, cell in table.groupby(CELL, sort=False):
        rows = cell.index.to_numpy()
        is_random = (cell["criterion"] == RANDOM).to_numpy()
        if not is_random.any():
            table.loc[rows, "reason"] = NO_DRAWS
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
        by_document = boot.sums.nll[others] - boot.sums.nll[draws].mean(axis=0)
        claims = against_random(
            -difference, nll[0, others], nll[0, draws],
            margin=margin, level=boot.level, few=few_each(by_document, boot.sums.count),
        )  # fmt: skip
        table.loc[others, [*CLAIMS, *SAID]] = claims[[*CLAIMS, *SAID]].to_numpy()
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


def pairwise(
    table: pd.DataFrame, banned: Sequence[Banned], boot: Resampled, margin: float | int = 0.01
) -> pd.DataFrame:
    """Differences of NLL between all pairs of criteria, with simultaneous intervals in each cell.

    The limits are difference +- c x bootstrap standard error, c the `level` quantile of the largest
    standardised deviation over the cell's pairs, so that all of a cell's intervals hold at once.
    `shared` is the Jaccard overlap of the experts that the two drop. `p_draws`: share of pairs of choices,
    random draws among them, that differ as much (Holm over the cell's pairs: `p_draws_holm`); `p_beyond`, so
    corrected too, that differ by what is left of the pair's nearer limit less `margin`. The words are
    those of `claims.judged`, positive where a loses more than b.
    """
    nll = boot.mean(boot.sums.nll)
    rows: list[pd.DataFrame] = []
    for cell, group in _cells(table):
        criteria = group[group["criterion"] != RANDOM]
        draws = group.loc[group["criterion"] == RANDOM, "nll"].to_numpy()
        pairs = list(combinations(criteria.index.tolist(), 2))
        if not pairs:
            continue
        a, b = np.array(pairs).T
        difference = nll[:, a] - nll[:, b]  # (sets, pairs)
        low, high = simultaneous(difference, boot.level)
        p = beyond = np.full(len(pairs), np.nan)
        if len(draws):
            left = np.abs(left_over(low, high, margin))
            p = np.array([p_pair(nll[0, i], nll[0, j], draws) for i, j in pairs])
            beyond = [p_pair(nll[0, i], nll[0, j], draws, x) for (i, j), x in zip(pairs, left)]
        holm, beyond = adjust(p, "holm"), adjust(np.array(beyond), "holm")
        said = judged(
            low, high, holm,
            margin=margin, level=boot.level, p_beyond=beyond,
            few=few_each(boot.sums.nll[a] - boot.sums.nll[b], boot.sums.count),
        )  # fmt: skip
        names = table["criterion"]
        columns = {
            **dict(zip(CELL, cell)),
            "a": [names[i] for i in a],
            "b": [names[i] for i in b],
            "difference": difference[0],
            "low": low,
            "high": high,
            "shared": [overlap(banned[i], banned[j]) for i, j in pairs],
            "p_draws": p,
            "p_draws_holm": holm,
            "p_beyond": beyond,
        }
        rows.append(pd.DataFrame(columns | said | {"reason": None if len(draws) else NO_DRAWS}))
    if not rows:
        numbers = ["difference", "low", "high", "shared", "p_draws", "p_draws_holm", "p_beyond"]
        return pd.DataFrame(columns=[*CELL, "a", "b", *numbers, *SAID, "reason"])
    return pd.concat(rows, ignore_index=True)


def overlap(a: Banned, b: Banned) -> float:
    """Jaccard overlap of two sets of dropped experts; 1 if neither drops any."""
    one = {(layer, e) for layer, gone in a.items() for e in gone}
    two = {(layer, e) for layer, gone in b.items() for e in gone}
    return len(one & two) / len(one | two) if one | two else 1.0


def interchangeability(
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    margin: float,
    seed: int,
    level: float | int = 0.95,
    few: bool = False,
) -> pd.DataFrame:
    """For each cell: is the choice of criterion worth more than a draw of lots?

    `spread` is the range of NLL over the criteria; `spread_random` the mean range of as many random
    draws, `above_random` the share of such sets of draws whose range is smaller than `spread`.
    `gain` is random's mean NLL minus the criteria's mean. `differ` counts the pairs whose
    simultaneous interval excludes 0, `within` those whose interval lies inside +-`margin` nats.
    `p_spread` is the share of sets of as many choices, criteria and draws together, that range as widely.
    `verdict` is by documents, so for the experts that went; `supports` is "experts of this layer" where
    the spread is also more than luck over experts makes (p_spread). With `few` documents: undecided. `reason`
    says why something about random choices is null.
    """
    rng, luck = generator(seed, "pruning spread"), generator(seed, "pruning spread by luck")
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
        expected = above = gain = p = np.nan
        if len(random) >= len(nll):
            sets = [rng.choice(random, len(nll), replace=False) for _ in range(2000)]
            ranges = np.array([np.ptp(each) for each in sets])
            expected, above = float(ranges.mean()), float((ranges < spread).mean())
        reason = None
        if len(random) < len(nll):
            few_drawn = f"{len(random)} random choices are fewer than the {len(nll)} criteria"
            reason = few_drawn if len(random) else NO_DRAWS
        if len(random):
            gain = float(random.mean() - nll.mean())
            p = p_spread(nll, random, luck)
        differ = int(((here["low"] > 0) | (here["high"] < 0)).sum())
        within = int(((here["low"] > -margin) & (here["high"] < margin)).sum())
        verdict = (
            "interchangeable"
            if within == len(here)
            else "not interchangeable"
            if differ
            else "undecided"
        )
        verdict = "undecided" if few else verdict
        best = criteria.loc[criteria["nll"].idxmin(), "criterion"]
        worst = criteria.loc[criteria["nll"].idxmax(), "criterion"]
        cost = float(criteria["d_nll"].mean())
        rows.append(
            (*cell, cost, spread, expected, above, gain, len(here), differ, within, best, worst)
            + (verdict, of_spread(verdict, p, level), p, reason)
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
    said = ["best", "worst", "verdict", "supports", "p_spread", "reason"]
    return pd.DataFrame(rows, columns=[*CELL, *names, *said])


def _cells(table: Any) -> Any:
    return table.groupby(CELL, sort=False)
