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
    ) -> TemperatureFit:
        """Put the global temperature in place of those of small groups, and say so."""
        overall = float(temperature[-1])
        own = np.where(counts.large, temperature[:-1], overall)
        reason = [
            _at_bound(t, bounds)
            if large
            else f"{n} rows are fewer than {counts.min_size}: the global temperature is used"
            for t, n, large in zip(own, counts.n, counts.large)
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
            overall_reason=_at_bound(overall, bounds),
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
        """One row per group and one for all rows: group, n, temperature, losses (nats), reason."""
        return pd.DataFrame(
            {
                "group": ["all", *self.groups],
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


def _at_bound(temperature: float, bounds: tuple[float, float]) -> str | None:
    for bound, why in zip(bounds, ("every prediction is right", "worse than uniform")):
        if np.isclose(temperature, bound, rtol=1e-6):
            return f"at the bound {bound:g}: the loss falls beyond it ({why}, or nearly so)"
    return None
