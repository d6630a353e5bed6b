"""The expected harm of each expert, with limits by document: from a census, or from a sample of removals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError

from ..contrast.checks import as_frame, fraction, require_per_expert
from ..least import REMOVALS_FOR_LIMITS
from ..sizes.limits import limits_of_columns, means_of_columns
from .harm import Harm, HarmSums

PRIOR = (
    10  # removals that the variance of all of a layer's experts counts as, beside an expert's own
)
COLUMNS = ["layer", "expert", "harm", "harm_low", "harm_high", "rows", "documents", "caution"]
WITH_SCREEN = ["plain", "plain_low", "plain_high", "slope", "assisted"]


def harm_by_expert(
    effects: Any,
    *,
    screen: Any = None,
    outcome: str = "delta_nll",
    layers: Sequence[int] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean outcome of removing each expert where it is active (nats a removal), with limits by document.

    Parameters
    ----------
    effects
        What `ablate` or an audit gives, of all removals or of a sample (`share=`): a DataFrame, or shards.
    screen
        First-order estimates of *all* removals of the same documents (`screen(model, docs)`, or its table), which
        make the harm of a sample better known: see below. Only of `delta_nll`, and of no use to a census.
    outcome, layers
        As for `expert_harm`.
    level
        Of the limits.

    Returns
    -------
    One row per layer and expert: `harm` with `harm_low` and `harm_high`, `rows` removals that were made,
    `documents` with any, `caution` where fewer than 30 were.

    In a sample every removal has the same inclusion probability, so that Hajek's estimator, the ratio of
    Horvitz-Thompson totals of outcomes and of removals, is the plain mean (Saerndal, Swensson & Wretman, Model
    Assisted Survey Sampling, 1992, section 5.7). Limits leave documents out in turn (`adjusted_limits`); since
    each document is sampled by itself they hold both what documents add and what the sample adds (the ultimate
    cluster, Hansen, Hurwitz & Madow 1953).

    With `screen` also `plain` with limits, which is the above, and the regression estimator (ibid., section 6.4)

        harm = mean of y + slope (mean of x over all removals - mean of x over those made),

    x the first-order estimate: the sample's luck with x is taken off. `slope` is one number a layer
    (`regression_of_columns`); where that does not narrow the layer's limits (median of its experts) the
    plain numbers are kept, and `assisted` is False.

    Raises InputError for tables without these columns, of several questions or samples, or a screen of other
    removals.
    """
    require_per_expert(effects)
    fraction(level, "level")
    if screen is not None and outcome != "delta_nll":
        raise InputError(
            f"A first-order screen estimates delta_nll, and the outcome here is {outcome}, of which it says nothing. "
            "Leave screen out."
        )
    sums = HarmSums(effects, outcome, layers)
    told = None if screen is None else Screens(effects, screen, sums)
    parts = []
    for layer in sums.layers:
        harm = sums.harm(layer, "active_token", least=1)
        mean, low, high = means_of_columns(harm.total, harm.count, level)
        rows = harm.count.sum(axis=0)
        part = pd.DataFrame(
            {
                "layer": layer, "expert": harm.expert, "harm": mean, "harm_low": low, "harm_high": high,
                "rows": rows.astype(np.int64), "documents": (harm.count > 0).sum(axis=0),
                "caution": [_caution(int(n)) for n in rows],
            }
        )  # fmt: skip
        if told is not None:
            part = _assisted(part, harm, told.of(layer, harm), level)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _caution(rows: int) -> str | None:
    if rows >= REMOVALS_FOR_LIMITS:
        return None
    return f"{rows} removals: with fewer than {REMOVALS_FOR_LIMITS}, limits may be too short"


@dataclass(frozen=True)
class Screened:
    """First-order estimates of one layer summed by document and expert: of all removals, and of those made."""

    total: Float[np.ndarray, "documents experts"]
    count: Float[np.ndarray, "documents experts"]
    made: Float[np.ndarray, "documents experts"]


class Screens:
    """The screen's estimates beside the effects of a sample."""

    KEYS = ("document", "position", "layer", "expert")

    def __init__(self, effects: Any, screen: Any, sums: HarmSums) -> None:
        table = as_frame(getattr(screen, "table", screen), [*self.KEYS, "estimate"], "The screen")
        table = table.rename(columns={"estimate": "delta_nll"}).assign(rank=0)
        table = table[table["document"].isin(sums.documents)]
        table["rank"] = table.groupby(["document", "position", "layer"]).cumcount()
        done = as_frame(effects, list(self.KEYS), "The effects table")
        made = done.merge(table, on=list(self.KEYS), how="left", validate="1:1")
        if lacking := int(np.isnan(made["delta_nll"].to_numpy(float)).sum()):
            raise InputError(
                f"The screen has no estimate of {lacking} of {len(made)} removals that were made. Screen the same "
                "model on the same documents, cut alike: screen(model, docs)."
            )
        self.all, self.made = (HarmSums(each, "delta_nll", sums.layers) for each in (table, made))
        if self.all.documents != sums.documents:
            raise InputError("The screen is of other documents than the effects.")

    def of(self, layer: int, harm: Harm) -> Screened:
        every = self.all.harm(layer, "active_token", least=1)
        made = self.made.harm(layer, "active_token", least=1)
        place = np.searchsorted(every.expert, harm.expert)
        return Screened(every.total[:, place], every.count[:, place], made.total)


def _assisted(part: pd.DataFrame, harm: Harm, told: Screened, level: float) -> pd.DataFrame:
    """The regression estimator beside the plain one, and the narrower of the two as the harm."""
    plain = part.rename(columns=lambda name: name.replace("harm", "plain"))
    slope, mean, low, high = regression_of_columns(harm.total, harm.count, told, level)
    before = (part["harm_high"] - part["harm_low"]).to_numpy()
    known = np.isfinite(low) & np.isfinite(before)
    better = bool(known.any() and np.median((high - low)[known] / before[known]) < 1)
    out = plain.assign(slope=slope, assisted=better)
    numbers = (mean, low, high) if better else part[["harm", "harm_low", "harm_high"]].to_numpy().T
    out["harm"], out["harm_low"], out["harm_high"] = numbers
    return pd.DataFrame(out, columns=[*COLUMNS, *WITH_SCREEN])


def regression_of_columns(
    total: Float[np.ndarray, "documents cells"],
    count: Float[np.ndarray, "documents cells"],
    told: Screened,
    level: float,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Regression estimator of each cell's mean, and its limits by document: (slope, mean, low, high).

    The slope has the least variance over documents, summed over cells; leaving a document out leaves it out of
    the slope as well. What first order misses is rare and large, and the sample of one cell may lack it: so the
    variance of a cell's removals is joined by that of all cells together, which counts as `PRIOR` more of them.
    """
    u = _influence(total, count)
    v = _influence(told.made, count) - _influence(told.total, told.count)
    above, below = (u * v).sum(axis=1), (v * v).sum(axis=1)  # (documents,)
    if not (below.sum() - below > 0).all():  # the screen does not vary
        return 0.0, *means_of_columns(total, count, level)
    slope = float(above.sum() / below.sum())
    without = ((above.sum() - above) / (below.sum() - below))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (total - slope * told.made).sum(0) / count.sum(0)
        mean = mean + slope * told.total.sum(0) / told.count.sum(0)
        left = (total.sum(0) - total) - without * (told.made.sum(0) - told.made)
        left = left / (count.sum(0) - count)
        left = left + without * (told.total.sum(0) - told.total) / (told.count.sum(0) - told.count)
    there = told.count > 0
    low, high = limits_of_columns(mean, left, there, level)
    longer = _joined(left, there, count.sum(axis=0))
    return slope, mean, mean - (mean - low) * longer, mean + (high - mean) * longer


def _joined(
    left: Float[np.ndarray, "documents cells"],
    there: np.ndarray,
    rows: Float[np.ndarray, " cells"],
) -> Float[np.ndarray, " cells"]:
    """By what standard errors change when a cell's variance a removal is joined by that of all cells."""
    with np.errstate(divide="ignore", invalid="ignore"):
        d = there.sum(axis=0)
        kept = np.where(there, left, 0.0)
        centred = np.where(there, kept - kept.sum(axis=0) / d, 0.0)
        own = (d - 1) / d * (centred**2).sum(axis=0) * rows  # of one removal
        use = np.isfinite(own) & (d > 1) & (rows >= PRIOR)
        if not use.any():
            return np.ones(len(rows))
        all_cells = (own * rows)[use].sum() / rows[use].sum()
        both = (rows * own + PRIOR * all_cells) / (rows + PRIOR)
        return np.where(own > 0, np.sqrt(both / own), 1.0)


def _influence(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """What each document adds to a ratio of sums, to first order."""
    below = count.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num((total - total.sum(axis=0) / below * count) / below)
