"""Fit the joint law: Huber loss on log losses, several starts, bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import least_squares

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.frames.shown import paragraph, table
from moeaudit.seeds import generator
from moeaudit.stats.sizes.bootstrap import percentile_limits

from .law import COEFFICIENTS, PUBLISHED, Law

COLUMNS = ("active", "tokens", "experts", "loss")
ENOUGH = 3 * len(COEFFICIENTS)  # distinct points below which resamples say nothing of the error
HUBER = 1e-3  # in log loss, as in arXiv 2203.15556 (Chinchilla), where residuals of good fits stand


@dataclass(frozen=True)
class LawFit:
    """A fitted law. `coefficients`: name, value, low, high (95 %, percentile limits over resampled points).

    Limits are null where `no_limits` says why: none were asked for, or there are fewer than three distinct points a
    coefficient. Resamples of so few hold hardly more distinct points than coefficients, fit them all but exactly and
    differ as the points' choice does, not as their error: of nine points every resample that can be fitted is the same.

    `rmse` in nats on the points that were fitted, `condition` the condition number of the scaled Jacobian: from
    about 1e8 on the points do not tell the coefficients apart, whatever the error of the loss is.
    """

    law: Law
    coefficients: Frame = field(repr=False)
    rmse: float
    points: int
    condition: float
    draws: Float[np.ndarray, "n_boot 9"] = field(repr=False)  # none without limits
    no_limits: str | None = None

    def predict(
        self, active: float | int, tokens: float | int, experts: float | int
    ) -> tuple[float, float, float]:
        """(loss, low, high) in nats at one point, in billions of parameters and tokens; NaN for null limits."""
        found = [float(Law(*draw)(active, tokens, experts)) for draw in self.draws]
        low, high = percentile_limits(np.array(found)) if found else (np.nan, np.nan)
        return float(self.law(active, tokens, experts)), low, high

    def __repr__(self) -> str:
        said = f"Law of {self.points} points: RMSE {self.rmse:.4f} nats"
        if self.condition > 1e8:
            said += (
                f"; the points do not tell its coefficients apart (condition {self.condition:.0e}), so trust what "
                "it says of losses among them and not the coefficients"
            )
        if self.no_limits is not None:
            said += f"; no limits: {self.no_limits}"
        return said + "."

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + table(self.coefficients)


def fit_law(points: pd.DataFrame, *, starts: int = 6, n_boot: int = 200, seed: int = 0) -> LawFit:
    """Fit the law to measured losses.

    Residuals are of log loss and pass a Huber loss of 1e-3 (as for Chinchilla's law, arXiv 2203.15556); the best of
    `starts` starting points counts, the published coefficients and draws around them. A and B are fitted as
    logarithms, so they are positive.

    Args:
        points: one row a trained model: active (billions of parameters), tokens (billions), experts (E; 1 is
            dense), loss (nats a token).
        starts: number of starting points.
        n_boot: resamples of whole points for the intervals; 0 gives none, and so do fewer than 27 distinct points
            (three a coefficient), with the reason in `no_limits`.
        seed: of starts and resamples.

    Raises:
        InputError: missing columns, values that cannot be, fewer distinct points than the nine coefficients, or one
            value only of active, tokens or experts, of which the law could then be anything.
    """
    x, y = _checked(points)
    rng = generator(seed, "scaling law")
    first = _packed(PUBLISHED)
    first[-1] = min(first[-1], 0.9 * float(y.min()))
    begins = [first] + [first + rng.normal(0, 0.3, len(first)) for _ in range(starts - 1)]
    fits = [_fitted(x, y, begin) for begin in begins]
    best = min(fits, key=lambda fit: fit.cost)
    law = _unpacked(best.x)
    no_limits = _no_limits(x, n_boot)
    draws = []
    while no_limits is None and len(draws) < n_boot:
        chosen = rng.integers(0, len(y), len(y))
        if len(np.unique(x[chosen], axis=0)) >= len(COEFFICIENTS):
            draws.append(_unpacked(_fitted(x[chosen], y[chosen], best.x).x).vector)
    table_ = pd.DataFrame({"coefficient": COEFFICIENTS, "value": law.vector})
    drawn = np.array(draws).reshape(-1, len(COEFFICIENTS))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if draws else (np.nan, np.nan)
    scaled = best.jac / np.linalg.norm(best.jac, axis=0).clip(1e-300)
    return LawFit(
        law,
        table_.assign(low=low, high=high),
        float(np.sqrt(np.mean((np.asarray(law(*x.T)) - y) ** 2))),
        len(y),
        float(np.linalg.cond(scaled)),
        drawn,
        no_limits,
    )


def _no_limits(x: Float[np.ndarray, "points 3"], n_boot: int) -> str | None:
    """Why there are no intervals, or None where there are."""
    if not n_boot:
        return "no resamples were asked for (n_boot = 0)"
    distinct = len(np.unique(x, axis=0))
    if distinct < ENOUGH:
        return (
            f"{distinct} distinct points are fewer than three a coefficient ({ENOUGH}), and resamples of them say "
            "nothing of the error"
        )
    return None


def _fitted(x: Float[np.ndarray, "points 3"], y: Float[np.ndarray, " points"], begin: np.ndarray):
    logs = np.log(y)

    def residuals(packed: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            said = np.asarray(_unpacked(packed)(*x.T))
        # Far from the data a term may overflow or c be below minus the rest: a large residual, no NaN.
        return np.log(np.nan_to_num(said, nan=1e30, posinf=1e30).clip(1e-30, 1e30)) - logs

    return least_squares(
        residuals, begin, loss="huber", f_scale=HUBER, x_scale="jac", max_nfev=2000
    )


def _packed(law: Law) -> Float[np.ndarray, " 9"]:
    found = law.vector
    found[[0, 4]] = np.log(found[[0, 4]])
    return found


def _unpacked(packed: Float[np.ndarray, " 9"]) -> Law:
    found = packed.copy()
    found[[0, 4]] = np.exp(found[[0, 4]].clip(-50, 50))
    return Law(*(float(value) for value in found))


def _checked(
    points: pd.DataFrame,
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
    missing = [name for name in COLUMNS if name not in points.columns]
    if missing:
        raise InputError(
            f"The points lack the columns {', '.join(missing)}. Expected one row a model with {', '.join(COLUMNS)}."
        )
    values = points[list(COLUMNS)].to_numpy(np.float64)
    if not np.isfinite(values).all() or not (values > 0).all() or (values[:, 2] < 1).any():
        raise InputError(
            "The points hold values that cannot be: finite numbers above 0 were expected, and experts of at least 1."
        )
    distinct = len(np.unique(values[:, :3], axis=0))
    if distinct < len(COEFFICIENTS):
        raise InputError(
            f"{distinct} distinct points cannot fix the {len(COEFFICIENTS)} coefficients of the law "
            f"({', '.join(COEFFICIENTS)}). Give at least {len(COEFFICIENTS)} models of different sizes, tokens and "
            "experts; three times as many tell something about the error as well."
        )
    for place, name in enumerate(COLUMNS[:3]):
        if len(np.unique(values[:, place])) < 2:
            raise InputError(
                f"All points have the same {name} ({values[0, place]:g}), so nothing says how the loss goes with it. "
                f"Vary {name}."
            )
    return values[:, :3], values[:, 3]
