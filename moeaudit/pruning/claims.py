"""What a pruning table may claim: by documents, for the experts that went, and beyond luck over experts.

A criterion chooses one set of experts. Documents say how much dearer or cheaper these experts are than
others, on text of this kind; any two sets differ, over enough text. Whether the criterion knew anything is a
question to other choices of as many experts: the random draws. If a criterion knew nothing its choice would
be one more draw, so its place among the draws is uniform, and p counts it among them. The same place, with
the smallest effect of interest taken off, tests that it is better than luck by more than that. Draws can
show that an effect is there and large, never that it is small: smallness is said of the experts that went.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.stats.families.families import adjust
from moeaudit.stats.few import too_few
from moeaudit.stats.sizes.equivalence import GRADED, INCONCLUSIVE, THE_LAYER, THESE, graded
from moeaudit.stats.sizes.lengths import p_lengths

SUBSETS = 2000
CLAIMS = ["simultaneous_low", "simultaneous_high", "p_draws", "p_draws_holm", "p_beyond"]
SAID = ["verdict", "verdict_these_experts", "supports", "too_few"]


def simultaneous(
    difference: Float[np.ndarray, "sets k"], level: float | int
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of k differences that hold all at once; row 0 is the estimate, the others resamplings.

    Estimate +- c x bootstrap standard error, c the `level` quantile of the largest standardised deviation.
    """
    error = difference[1:].std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.abs(difference[1:] - difference[0]) / error
    largest = np.nan_to_num(deviation, nan=0.0, posinf=0.0).max(axis=1)
    half = float(np.quantile(largest, level)) * error
    return difference[0] - half, difference[0] + half


def p_draws(nll: Float[np.ndarray, " k"], draws: Float[np.ndarray, " draws"]) -> np.ndarray:
    """Share of choices, the draws and the criterion's own, that lose as little: (1 + count) / (1 + draws).

    One-sided, since a criterion is to be cheaper than random. That one is dearer than luck would make it is
    not asked; documents may say so of these experts.
    """
    return (1 + (draws[None] <= nll[:, None]).sum(axis=1)) / (1 + len(draws))


def p_pair(
    a: float, b: float, draws: Float[np.ndarray, " draws"], least: float | None = None
) -> float:
    """Share of all pairs of choices, of the two criteria's and the draws, that differ as much, or by `least`."""
    pool = np.concatenate([[a, b], draws])
    i, j = np.triu_indices(len(pool), k=1)
    least = abs(a - b) if least is None else least
    return float((np.abs(pool[i] - pool[j]) >= least * (1 - 1e-12)).mean())


def left_over(low: np.ndarray, high: np.ndarray, margin: float | int) -> np.ndarray:
    """What is left of differences, signed, when documents' uncertainty and `margin` are taken off: of the
    limit nearer to 0, since both are to be beyond luck; 0 where nothing is left."""
    return np.maximum(low - margin, 0) + np.minimum(high + margin, 0)


def p_spread(
    nll: Float[np.ndarray, " k"], draws: Float[np.ndarray, " draws"], rng: np.random.Generator
) -> float:
    """Share of sets of k choices, of criteria and draws together, that range as widely as the criteria;
    2,000 random sets and the criteria themselves."""
    pool = np.concatenate([nll, draws])
    order = rng.permuted(np.tile(np.arange(len(pool)), (SUBSETS, 1)), axis=1)[:, : len(nll)]
    ranges = np.ptp(pool[order], axis=1)
    return float((1 + (ranges >= np.ptp(nll) * (1 - 1e-12)).sum()) / (1 + SUBSETS))


def few_each(
    sums: Float[np.ndarray, "k documents"], tokens: Float[np.ndarray, " documents"]
) -> list[str | None]:
    """Why documents are too few for a verdict of each of k differences, summed by document; else None.

    The rule of all tables (`few.too_few`), without its part about tokens: an evaluation keeps sums.
    """
    return [too_few(row, tokens, p_lengths=p_lengths(row, tokens)) for row in sums]


def judged(
    low: np.ndarray,
    high: np.ndarray,
    p_experts: np.ndarray,
    *,
    margin: float | int,
    level: float | int,
    few: Sequence[str | None],
    p_beyond: np.ndarray | None = None,
) -> dict[str, list[Any]]:
    """The graded words for differences whose simultaneous limits are `low` and `high`, nats a token.

    Positive is the claim ("predictive": by more than `margin`). Limits stand in for p: an effect is shown by
    documents where they exclude 0, and small where they lie within +-margin. Without draws (NaN in
    `p_experts`) that is the `verdict`, of these experts. With draws it is `verdict_these_experts`, and the
    verdict is about the layer: present where the draws agree, beyond the margin where `p_beyond`, their p
    of that, does too (None: never), else open. It is never small: draws do not show that. `few` says
    why there is no verdict (`few_each`).
    """
    rows, alpha = [], 1 - level
    open_size = np.full(len(low), np.nan)
    for a, b, p, size, why in zip(
        low, high, p_experts, open_size if p_beyond is None else p_beyond, few
    ):
        present = 0.0 if a > 0 or b < 0 else 1.0
        small = 0.0 if a > -margin and b < margin else 1.0
        limits = float(a + b) / 2, float(a), float(b)
        how: dict[str, Any] = {"bound": margin, "alpha": alpha, "few": why is not None}
        alone, whom = graded(present, small, *limits, **how)
        verdict = alone
        if not np.isnan(p):
            beyond = a > margin or b < -margin
            p_size = float(size) if beyond else float("nan")
            verdict, whom = graded(
                present, 1.0, *limits, **how, p_experts=float(p), p_beyond=p_size
            )
            if whom is None and alone in GRADED and alone != INCONCLUSIVE:
                whom = THESE  # documents show these experts' difference to be small
        rows.append((verdict, alone, whom, why))
    return {name: list(values) for name, values in zip(SAID, zip(*rows))}


def against_random(
    gain: Float[np.ndarray, "sets k"],
    nll: Float[np.ndarray, " k"],
    draws: Float[np.ndarray, " draws"],
    *,
    margin: float | int,
    level: float | int,
    few: Sequence[str | None],
) -> pd.DataFrame:
    """The claims of a cell's criteria against random draws, `gain` = mean loss of the draws - loss.

    p over experts is corrected by Holm over the criteria of the cell, where a random criterion counts too.
    `p_beyond` (so corrected, too) is the place among the draws of a criterion that gains only its lower
    simultaneous limit less `margin`; 1 where that is not above 0.
    """
    low, high = simultaneous(gain, level)
    p = p_draws(nll, draws)
    corrected = adjust(p, "holm")
    left = np.maximum(
        left_over(low, high, margin), 0
    )  # that one is dearer is not asked of the draws
    beyond = adjust(np.where(left > 0, p_draws(draws.mean() - left, draws), 1.0), "holm")
    said = judged(low, high, corrected, margin=margin, level=level, few=few, p_beyond=beyond)
    numbers = dict(zip(CLAIMS, (low, high, p, corrected, beyond)))
    return pd.DataFrame(numbers | said)


def draws_needed(criteria: int, level: float | int) -> int:
    """The least number of draws with which one of so many criteria could pass Holm's correction."""
    return int(np.ceil(criteria / (1 - level) - 1e-9)) - 1


def of_spread(verdict: str, p: float, level: float | int) -> str | None:
    """Whom a verdict of interchangeability speaks of."""
    if verdict == "undecided":
        return None
    return THE_LAYER if verdict == "not interchangeable" and p <= 1 - level else THESE
