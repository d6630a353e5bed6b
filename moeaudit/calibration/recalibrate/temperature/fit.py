"""`TemperatureFit`: fitted temperatures by group, which groups fell back, and their application."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from moeaudit.errors import InputError

BOUNDS = (0.05, 20.0)
MIN_SIZE = 200  # rows: below it, one group's own temperature is mostly noise


@dataclass(frozen=True)
class GroupCounts:
    """Rows and summed weight of each group (and, last, of all rows)."""

    names: list[str]
    n: Int[np.ndarray, " groups_and_all"]
    total_weight: Float[np.ndarray, " groups_and_all"]
    large: Bool[np.ndarray, " groups"]
    min_size: int


def group_counts(
    rows: int,
    codes: np.ndarray | None,
    names: list[str],
    weight: np.ndarray | None,
    min_size: int,
) -> GroupCounts:
    """Count rows by group; refuses weights that are negative, not finite or all zero."""
    w = np.ones(rows) if weight is None else np.asarray(weight, dtype=np.float64)
    if not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError(
            "Weights must be finite, not negative and not all zero; with all weights zero there is "
            "nothing to fit on."
        )
    code = np.zeros(rows, np.int64) if codes is None else codes
    n = np.bincount(code, minlength=len(names))[: len(names)]
    total = np.bincount(code, w, minlength=len(names))[: len(names)]
    large = (n >= min_size) & (total > 0)
    return GroupCounts(names, np.append(n, rows), np.append(total, w.sum()), large, min_size)


@dataclass(frozen=True)
class Beyond:
    """What the loss does beyond any bound, by group (and, last, of all rows).

    `same`: each row's logits are all equal. `right`: no label is below its row's largest logit, so
    that the loss falls down to T = 0. `against`: labels' logits are on average no larger than their
    rows' means, so that, the loss being convex in 1 / T, it falls up to T = infinity; None if unknown.
    """

    same: Bool[np.ndarray, " groups_and_all"]
    right: Bool[np.ndarray, " groups_and_all"]
    against: Bool[np.ndarray, " groups_and_all"] | None


@dataclass(frozen=True)
class TemperatureFit:
    """Temperatures by group. `reason` is None for a group that has its own fit.

    `nll_before` and `nll_after` are mean losses in nats on the rows of the fit itself, so they are
    optimistic; report on other documents.
    """

    groups: list[str]
    temperature: Float[np.ndarray, " groups"]
    overall: float
    n: Int[np.ndarray, " groups"]
    reason: list[str | None]
    nll_before: Float[np.ndarray, " groups_and_all"]
    nll_after: Float[np.ndarray, " groups_and_all"]
    n_rows: int
    overall_reason: str | None

    @classmethod
    def of(
        cls,
        counts: GroupCounts,
        temperature: Float[np.ndarray, " groups_and_all"],
        before: Float[np.ndarray, " groups_and_all"],
        after: Float[np.ndarray, " groups_and_all"],
        bounds: tuple[float, float],
        beyond: Beyond,
    ) -> TemperatureFit:
        """Put the global temperature in place of those of small groups, and say so."""
        overall = float(temperature[-1])
        own = np.where(counts.large, temperature[:-1], overall)
        reason = [
            _why_at_bound(t, bounds, beyond, k)
            if large
            else f"{n} rows are fewer than {counts.min_size}: the global temperature is used"
            for k, (t, n, large) in enumerate(zip(own, counts.n, counts.large))
        ]
        small = np.append(~counts.large, False)
        return cls(
            groups=counts.names,
            temperature=own,
            overall=overall,
            n=counts.n[:-1],
            reason=reason,
            nll_before=before,
            nll_after=np.where(small, np.nan, after),
            n_rows=int(counts.n[-1]),
            overall_reason=_why_at_bound(overall, bounds, beyond, -1),
        )

    @property
    def n_fallback(self) -> int:
        """Groups that were too small for a fit of their own."""
        return sum(r is not None and "global temperature" in r for r in self.reason)

    def of_rows(
        self, group: np.ndarray | None, rows: int
    ) -> tuple[Float[np.ndarray, " rows"], int]:
        """The temperature of each row, and how many rows are of a group the fit never saw.

        Rows of an unseen group get the global temperature.
        """
        if not self.groups or group is None:
            if self.groups:
                raise InputError(
                    f"These temperatures were fitted by group ({', '.join(self.groups[:5])} ...); "
                    "give the group of each row to use them."
                )
            return np.full(rows, self.overall), 0
        known = {name: i for i, name in enumerate(self.groups)}
        names, code = np.unique(np.asarray(group).astype(str), return_inverse=True)
        place = np.array([known.get(str(name), -1) for name in names])[code]
        values = np.append(self.temperature, self.overall)[place]
        return values, int((place < 0).sum())

    def log_probabilities(
        self, logits: Float[np.ndarray, "rows classes"], group: np.ndarray | None = None
    ) -> Float[np.ndarray, "rows classes"]:
        """Log-softmax of the logits over each row's temperature."""
        temperature, _ = self.of_rows(group, len(logits))
        return log_softmax(logits.astype(np.float64) / temperature[:, None])

    def frame(self) -> pd.DataFrame:
        """One row per group and one for all rows (`whole`): group, whole, n, temperature, losses (nats), reason."""
        return pd.DataFrame(
            {
                "group": ["all", *self.groups],
                "whole": [True, *[False] * len(self.groups)],
                "n": [self.n_rows, *self.n.tolist()],
                "temperature": [self.overall, *self.temperature.tolist()],
                "nll_before": np.roll(self.nll_before, 1),
                "nll_after": np.roll(self.nll_after, 1),
                "reason": pd.Series([self.overall_reason, *self.reason], dtype=object),
            }
        )


def log_softmax(z: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    """Log-probabilities from logits, safe from overflow."""
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def at_bound(
    temperature: Float[np.ndarray, " groups_and_all"], bounds: tuple[float, float]
) -> Bool[np.ndarray, " groups_and_all"]:
    """Which temperatures lie at an end of what was allowed."""
    low, high = (np.isclose(temperature, bound, rtol=1e-6) for bound in bounds)
    return low | high


def _why_at_bound(
    temperature: float, bounds: tuple[float, float], beyond: Beyond, k: int
) -> str | None:
    """What it means that a temperature lies at its bound; None where it lies between them."""
    if not at_bound(np.array([temperature]), bounds)[0]:
        return None
    low = bool(np.isclose(temperature, bounds[0], rtol=1e-6))
    where = f"at the bound {bounds[0] if low else bounds[1]:g}: "
    if beyond.same[k]:
        return (
            where + "every temperature has the same loss, as the logits of each row are all equal"
        )
    if low and beyond.right[k]:
        why = "every prediction is right"
    elif low:
        why = "the best temperature is lower still: the logits are close together and mostly right"
    elif beyond.against is None:
        why = "the best temperature is higher still, or none is high enough"
    elif beyond.against[k]:
        why = "worse than uniform at every temperature"
    else:
        why = "the best temperature is higher still: logits of wrong predictions are that far ahead"
    return f"{where}the loss falls beyond it ({why})"
