"""The compact form of the logits of a large vocabulary: loss and confidence on a grid of temperatures.

50,000 tokens x 4,096 logits are 800 MB; their losses and largest probabilities at 25 temperatures
are 10 MB, and hold all that a temperature needs. Both are smooth in log T, so a cubic spline
between grid points loses nothing that matters (measured in docs/methods/calibration_shift.md).
Dividing by T never changes which class is the largest, so correctness needs no grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar

from moeaudit.errors import InputError

from .fit import MIN_SIZE, Beyond, TemperatureFit, group_counts
from .temperature import check_logits, group_codes

# Evenly spaced in log T, with T = 1 among them.
TEMPERATURES = np.geomspace(0.25, 4.0, 25)


@dataclass(frozen=True)
class TemperatureGrid:
    """Loss (nats) and confidence of each row at each temperature of an ascending grid."""

    temperatures: Float[np.ndarray, " temperatures"]
    nll: Float[np.ndarray, "rows temperatures"]
    confidence: Float[np.ndarray, "rows temperatures"]

    def __post_init__(self) -> None:
        t = self.temperatures
        if len(t) < 4 or (t <= 0).any() or (np.diff(t) <= 0).any():
            raise InputError(
                "The temperatures of a grid must be at least 4, positive and ascending; got "
                f"{t.tolist()}."
            )
        shape = (len(self.nll), len(t))
        if self.nll.shape != shape or self.confidence.shape != shape:
            raise InputError(
                f"Losses {self.nll.shape} and confidences {self.confidence.shape} of a temperature "
                f"grid must both have one column for each of its {len(t)} temperatures."
            )

    @classmethod
    def of(
        cls,
        logits: Float[np.ndarray, "rows classes"],
        label: Int[np.ndarray, " rows"],
        temperatures: Float[np.ndarray, " temperatures"] = TEMPERATURES,
    ) -> TemperatureGrid:
        """Reduce a piece of logits; `joined` puts the pieces together."""
        check_logits(logits, label)
        z = logits.astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        true = z[np.arange(len(z)), label]
        nll, confidence = [], []
        for t in temperatures:
            total = np.exp(z / t).sum(axis=1)
            nll.append(np.log(total) - true / t)
            confidence.append(1 / total)  # the largest logit is 0
        return cls(temperatures, np.stack(nll, axis=1), np.stack(confidence, axis=1))

    @classmethod
    def joined(cls, parts: Iterable[TemperatureGrid]) -> TemperatureGrid:
        """Rows of several grids of the same temperatures, one after another."""
        pieces = list(parts)
        if not pieces:
            raise InputError("There are no pieces of a temperature grid to join.")
        first = pieces[0].temperatures
        if any(not np.array_equal(first, piece.temperatures) for piece in pieces):
            raise InputError("Pieces of a temperature grid must share the same temperatures.")
        return cls(
            first,
            np.concatenate([piece.nll for piece in pieces]),
            np.concatenate([piece.confidence for piece in pieces]),
        )

    def __len__(self) -> int:
        return len(self.nll)

    def rows(self, keep: np.ndarray) -> TemperatureGrid:
        """The grid of some rows, by places or by a mask."""
        return TemperatureGrid(self.temperatures, self.nll[keep], self.confidence[keep])

    @cached_property
    def _splines(self) -> tuple[CubicSpline, CubicSpline]:
        # Confidence is interpolated as a log-odds, so that it stays inside (0, 1).
        x = np.log(self.temperatures)
        p = np.clip(self.confidence.astype(np.float64), 1e-12, 1 - 1e-12)
        return (
            CubicSpline(x, self.nll.astype(np.float64), axis=1),
            CubicSpline(x, np.log(p) - np.log1p(-p), axis=1),
        )

    def at(
        self, temperature: float | Float[np.ndarray, " rows"]
    ) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """(loss, confidence) of each row at one temperature, or at its own.

        Raises InputError for a temperature outside the grid: nothing is extrapolated.
        """
        t = np.broadcast_to(np.asarray(temperature, dtype=np.float64), (len(self),))
        low, high = self.temperatures[0], self.temperatures[-1]
        outside = (t < low * (1 - 1e-9)) | (t > high * (1 + 1e-9))
        if outside.any():
            raise InputError(
                f"{int(outside.sum())} temperature(s) lie outside the grid {low:g} to {high:g}, the "
                f"first {t[outside][0]:g}. Build the grid wider."
            )
        nll, odds = np.empty(len(self)), np.empty(len(self))
        x = np.clip(np.log(t), np.log(low), np.log(high))
        distinct, code = np.unique(x, return_inverse=True)
        loss, log_odds = self._splines
        for k, value in enumerate(distinct):  # few distinct temperatures: one per group
            inside = code == k
            nll[inside] = _rows_at(loss, value, inside)
            odds[inside] = _rows_at(log_odds, value, inside)
        return nll, 1 / (1 + np.exp(-odds))

    def fit(
        self,
        *,
        group: np.ndarray | None = None,
        weight: Float[np.ndarray, " rows"] | None = None,
        min_size: int = MIN_SIZE,
    ) -> TemperatureFit:
        """The temperature of all rows and of each large group; bounds are the ends of the grid."""
        codes, names = group_codes(group, len(self))
        counts = group_counts(len(self), codes, names, weight, min_size)
        w = np.ones(len(self)) if weight is None else weight
        bounds = (float(self.temperatures[0]), float(self.temperatures[-1]))
        found, before, after = [], [], []
        same, right = [], []
        for k in range(len(names) + 1):
            inside = slice(None) if codes is None or k == len(names) else codes == k
            if counts.total_weight[k] <= 0:
                mean = np.full(len(self.temperatures), np.nan)
                t = 1.0
            else:
                mean = w[inside] @ self.nll[inside] / counts.total_weight[k]
                t = _lowest(self.temperatures, mean)
            curve = None if np.isnan(mean).any() else CubicSpline(np.log(self.temperatures), mean)
            found.append(t)
            own = np.ones(len(w), bool) if codes is None or k == len(names) else codes == k
            kept = np.flatnonzero(own & (w > 0))
            # The right class is the largest where its loss is that of the confidence, up to float32.
            behind = self.nll[kept] + np.log(self.confidence[kept])
            right.append(bool((np.abs(behind) <= 1e-5 * (1 + self.nll[kept])).all()))
            same.append(bool((np.ptp(self.nll[kept], axis=1) <= 1e-6).all()))
            one = bounds[0] <= 1 <= bounds[1] and curve is not None
            before.append(float(curve(0.0)) if one and curve is not None else np.nan)
            after.append(float(curve(np.log(t))) if curve is not None else np.nan)
        return TemperatureFit.of(
            counts,
            np.array(found),
            np.array(before),
            np.array(after),
            bounds,
            Beyond(np.array(same), np.array(right), None),
        )


def _rows_at(spline: CubicSpline, x: float, rows: np.ndarray) -> np.ndarray:
    """One value of the splines of some rows: the polynomial of the piece that x is in."""
    piece = int(np.clip(np.searchsorted(spline.x, x, side="right") - 1, 0, len(spline.x) - 2))
    step = x - spline.x[piece]
    c = spline.c[:, piece][:, rows]  # (4, rows), highest power first
    return ((c[0] * step + c[1]) * step + c[2]) * step + c[3]


def _lowest(temperatures: np.ndarray, mean: np.ndarray) -> float:
    """Where the spline through the mean losses is lowest (the loss has one minimum in T)."""
    x = np.log(temperatures)
    k = int(np.argmin(mean))
    if k in (0, len(x) - 1):
        neighbour = 1 if k == 0 else len(x) - 2
        curve = CubicSpline(x, mean)
        inner = minimize_scalar(
            curve, bounds=sorted((x[k], x[neighbour])), method="bounded", options={"xatol": 1e-10}
        )
        return float(np.exp(inner.x if inner.fun < mean[k] - 1e-12 else x[k]))
    found = minimize_scalar(
        CubicSpline(x, mean),
        bounds=(x[k - 1], x[k + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x))
