"""Isotonic recalibration: the non-decreasing map of confidence that fits the outcomes best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Num
from scipy.optimize import isotonic_regression

from moeaudit.errors import InputError

from .temperature.fit import MIN_SIZE, group_counts
from .temperature.temperature import group_codes


@dataclass(frozen=True)
class IsotonicMap:
    """A non-decreasing map, linear between its knots and flat outside them."""

    x: Float[np.ndarray, " knots"]
    y: Float[np.ndarray, " knots"]

    def __call__(self, confidence: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        return np.interp(confidence, self.x, self.y)


@dataclass(frozen=True)
class IsotonicFit:
    """A map for all rows and one for each group that was large enough; `reason` says why not."""

    overall: IsotonicMap
    groups: list[str]
    maps: list[IsotonicMap]
    n: list[int]
    reason: list[str | None]

    @property
    def n_fallback(self) -> int:
        return sum(r is not None for r in self.reason)

    def apply(
        self, confidence: Float[np.ndarray, " rows"], group: np.ndarray | None = None
    ) -> tuple[Float[np.ndarray, " rows"], int]:
        """Recalibrated confidences, and how many rows are of a group the fit never saw."""
        if not self.groups:
            return self.overall(confidence), 0
        if group is None or len(group) != len(confidence):
            raise InputError("These maps were fitted by group; give the group of each row.")
        known = {name: k for k, name in enumerate(self.groups)}
        out, unseen = self.overall(confidence), 0
        label = np.asarray(group).astype(str)
        for name in np.unique(label):
            rows = label == name
            if str(name) in known:
                out[rows] = self.maps[known[str(name)]](confidence[rows])
            else:
                unseen += int(rows.sum())
        return out, unseen

    def frame(self) -> pd.DataFrame:
        """One row per group: group, n, knots of its map, reason if the global map is used."""
        return pd.DataFrame(
            {
                "group": self.groups,
                "whole": [False] * len(self.groups),
                "n": self.n,
                "knots": [len(m.x) for m in self.maps],
                "reason": pd.Series(self.reason, dtype=object),
            }
        )


def fit_isotonic(
    confidence: Float[np.ndarray, " rows"],
    correct: Num[np.ndarray, " rows"] | Bool[np.ndarray, " rows"],
    *,
    group: np.ndarray | None = None,
    weight: Float[np.ndarray, " rows"] | None = None,
    min_size: int = MIN_SIZE,
) -> IsotonicFit:
    """Weighted least squares under monotonicity (pool adjacent violators), overall and by group.

    Equal confidences are pooled first. Between knots the map is linear, as in scikit-learn
    (Zadrozny & Elkan 2002 use steps). With few rows it memorises its outcomes, so it is only to
    be judged on other documents.

    Raises InputError if there are no rows or all weights are zero.
    """
    if len(confidence) == 0 or len(confidence) != len(correct):
        raise InputError(
            f"Isotonic recalibration needs one outcome per confidence and at least one; got "
            f"{len(confidence)} confidences and {len(correct)} outcomes."
        )
    codes, names = group_codes(group, len(confidence))
    counts = group_counts(len(confidence), codes, names, weight, min_size)
    w = np.ones(len(confidence)) if weight is None else np.asarray(weight, dtype=np.float64)
    y = np.asarray(correct, dtype=np.float64)
    overall = _pool(confidence, y, w)
    maps: list[IsotonicMap] = []
    reasons: list[str | None] = []
    for k, large in enumerate(counts.large):
        rows = codes == k
        maps.append(_pool(confidence[rows], y[rows], w[rows]) if large else overall)
        why = f"{counts.n[k]} rows are fewer than {min_size}: the global map is used"
        reasons.append(None if large else why)
    return IsotonicFit(overall, names, maps, counts.n[:-1].tolist(), reasons)


def _pool(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> IsotonicMap:
    keep = w > 0
    distinct, code = np.unique(np.asarray(x, dtype=np.float64)[keep], return_inverse=True)
    total = np.bincount(code, w[keep])
    mean = np.bincount(code, w[keep] * y[keep]) / total
    level = isotonic_regression(mean, weights=total, increasing=True).x
    # The ends of each flat stretch are enough to draw it.
    inner = np.ones(len(level), dtype=bool)
    if len(level) > 2:
        inner[1:-1] = (level[1:-1] != level[:-2]) | (level[1:-1] != level[2:])
    return IsotonicMap(distinct[inner], level[inner])
