"""Means with limits, documents being the sampling unit: written once.

A mean over rows is a ratio of document sums, m = sum(s_d) / sum(n_d). So a table is first reduced
to sums by document (`sums`), which may be made frame by frame, and limits need no row again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame

from .contrast.frames import frames_of
from .sizes.bootstrap import document_weights, percentile_limits
from .sizes.limits import means_of_columns

LIMITS = ("student", "percentile", "adjusted")


@dataclass(frozen=True)
class Clustered:
    """`Clustered(by=["layer"], values=["kl"])(table)`: the mean of each value in each group, with limits.

    Parameters
    ----------
    by, values
        Columns that group, and columns whose means are wanted.
    limits
        "student": the variance of the linearised ratio, G / (G - 1) * sum((s_d - m n_d)^2) / N^2 over
        the G documents of the group (Cochran, Sampling Techniques, 1977, section 6.3), and Student's t
        with G - 1 degrees of freedom. "percentile": documents of the group resampled `n_boot` times.
        "adjusted": documents left out in turn, Student's t longer for heavy tails and on the side documents are
        skewed to (`sizes.limits.adjusted_limits`), which the limits of a sample of rows need.
        With one document there is no interval: low and high are NaN.
    cluster
        The column that holds the sampling unit.

    Called on a DataFrame, or on shards with `frames(columns)` in each of which documents are whole;
    then memory is one frame and the sums. Returns one row per group: `by`, `rows`, `documents`, and per
    value `v`, `v_low`, `v_high`. Raises InputError for columns that are not there.
    """

    by: Sequence[str]
    values: Sequence[str]
    limits: str = "student"
    level: float = 0.95
    n_boot: int = 2000
    seed: int = 0
    cluster: str = "document"

    def __post_init__(self) -> None:
        one_of(self.limits, LIMITS, "kind of limits")

    def __call__(self, table: Any) -> Frame:
        columns = [*self.by, self.cluster, *self.values]
        return self.means([self.sums(frame) for frame in frames_of(table, columns, "The table")])

    def long(self, table: Any) -> Frame:
        """The same with one row per group and value: `by`, series, value, low, high, documents, rows."""
        wide = self(table)
        parts = [
            wide[[*self.by]].assign(
                series=v,
                value=wide[v],
                low=wide[f"{v}_low"],
                high=wide[f"{v}_high"],
                documents=wide["documents"],
                rows=wide["rows"],
            )
            for v in self.values
        ]
        return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)

    def sums(self, frame: Frame) -> Frame:
        """One row per group and document: its sums, and `n`, its rows."""
        numbers = frame[list(self.values)].astype("float64")  # sums in float32 drift
        keyed: Frame = pd.concat([frame[[*self.by, self.cluster]], numbers], axis=1)
        grouped = keyed.groupby([*self.by, self.cluster], observed=True)
        return grouped[list(self.values)].sum().assign(n=grouped.size()).reset_index()

    def means(self, parts: Sequence[Frame]) -> Frame:
        """The table from the sums of one or several frames."""
        keys = [*self.by, self.cluster]
        sums = parts[0] if len(parts) == 1 else pd.concat(parts).sort_values(keys)
        groups = sums.groupby(list(self.by), observed=True)
        out: Frame = groups["n"].agg(rows="sum", documents="size")
        for value in self.values:
            if self.limits == "student":
                out[value] = groups[value].sum() / out["rows"]
                half = self._half(sums, value) / out["rows"]
                low, high = out[value] - half, out[value] + half
            elif self.limits == "adjusted":
                out[value], low, high = self._adjusted(sums, value, out)
            else:
                found = [self._resampled(part, value) for _, part in groups]
                out[value], low, high = np.array(found).T
            out[f"{value}_low"], out[f"{value}_high"] = low, high
        return out.reset_index()

    def _half(self, sums: Frame, value: str) -> Any:
        """Half the width of Student's interval of each group, times its rows."""
        groups = sums.groupby(list(self.by), observed=True)
        g = groups.size().to_numpy(dtype="float64")
        scale = np.where(g > 1, g / np.maximum(g - 1, 1), np.nan)
        quantile = scipy.stats.t.ppf(0.5 + self.level / 2, np.maximum(g - 1, 1))
        m = groups[value].transform("sum") / groups["n"].transform("sum")
        squared = sums.assign(r2=(sums[value] - m * sums["n"]) ** 2)
        squares = squared.groupby(list(self.by), observed=True)["r2"].sum()
        return quantile * np.sqrt(scale * squares)

    def _adjusted(self, sums: Frame, value: str, groups: Frame) -> tuple[Any, Any, Any]:
        """Mean and limits of each group, in the order of `groups`."""
        place = sums.groupby(list(self.by), observed=True).ngroup().to_numpy()
        document = pd.factorize(sums[self.cluster])[0]
        shape = (int(document.max()) + 1, len(groups))
        total, count = np.zeros(shape), np.zeros(shape)
        total[document, place] = sums[value].to_numpy(float)
        count[document, place] = sums["n"].to_numpy(float)
        return means_of_columns(total, count, self.level)

    def _resampled(self, part: Frame, value: str) -> tuple[float, float, float]:
        """Mean and percentile limits of one group; groups of as many documents share their draws."""
        total, count = part[value].to_numpy(float), part["n"].to_numpy(float)
        mean = float(total.sum() / count.sum())
        if len(part) < 2:
            return mean, float("nan"), float("nan")
        weights = document_weights(len(part), self.n_boot, self.seed)
        return mean, *percentile_limits(ratio_draws(total, count, weights), self.level)


ONE_SEED = "one seed: no interval over seeds"


def over_seeds(table: Frame, by: Sequence[str], values: Sequence[str]) -> Frame:
    """Mean of each value over trainings, with Student's 95 % limits over seeds.

    `table` has one row a training: `by`, `seed`, the values. Returns `by`, `seeds`, per value `v`, `v_low`, `v_high`,
    and `reason`, why limits are null (one seed). Raises InputError where a group has two rows of one seed.
    """
    if table.duplicated([*by, "seed"]).any():
        raise InputError(
            f"Two rows have the same {', '.join(by)} and seed; one row for each training was expected, since seeds "
            "are the sampling unit."
        )
    found = Clustered(list(by), list(values), cluster="seed")(table)
    found = found.rename(columns={"documents": "seeds"}).drop(columns="rows")
    few = [ONE_SEED if seeds < 2 else None for seeds in found["seeds"]]
    return found.assign(reason=pd.Series(few, index=found.index, dtype=object))


def ratio_draws(
    above: Float[np.ndarray, " documents"],
    below: Float[np.ndarray, " documents"],
    weights: Float[np.ndarray, "n_boot documents"],
) -> Float[np.ndarray, " n_boot"]:
    """A ratio of document sums in every resample: a mean, if `below` counts rows."""
    return (weights @ above) / (weights @ below)


def safe_ratio_draws(
    above: Float[np.ndarray, " documents"],
    below: Float[np.ndarray, " documents"],
    weights: Float[np.ndarray, "n_boot documents"],
    level: float = 0.95,
    count: Float[np.ndarray, " documents"] | None = None,
) -> Float[np.ndarray, " draws"] | None:
    """A ratio of document sums in every resample; None where `below` is not told apart from 0.

    A ratio to something that may be 0 cannot be estimated: where the interval of the sum of `below`
    (of its mean over `count` rows, if given) holds 0 there are no draws. Resamples in which it is 0
    are left out.
    """
    drawn = weights @ np.stack([above, below]).T  # (n_boot, 2)
    under = drawn[:, 1] if count is None else drawn[:, 1] / np.maximum(weights @ count, 1)
    low, high = percentile_limits(under, level)
    if not (low > 0 or high < 0):
        return None
    whole = drawn[:, 1] != 0
    return drawn[whole, 0] / drawn[whole, 1]
