"""Learning rates swept: does the best one stay where it is when the model changes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.frames.shown import paragraph, table
from moeaudit.stats.clustered import over_seeds

from ..recipes.whole import Recipe
from ..training.data import Mixture
from ..training.model import quiet
from ..training.steps import Steps
from ..training.text import texts_of

LAST = 0.2  # of the steps: their mean loss stands for the end
_RATES = ("matrix_rate", "vector_rate", "router_rate")


@dataclass(frozen=True)
class RateSweep:
    """`table`: arm, factor (on all rates), seed, loss (mean over the last fifth of the steps, nats), diverged.

    `best`: arm, seeds, log2_best with 95 % limits over seeds: log2 of the factor at the bottom of the parabola through
    the lowest point and its neighbours; `at_edge`: seeds whose lowest point is the first or last factor, of which
    only a side is known. `shifts`: the same of the difference to the first arm, paired by seed.
    """

    table: Frame = field(repr=False)
    best: Frame
    shifts: Frame

    def __repr__(self) -> str:
        said = "; ".join(
            f"{row.arm} {row.log2_best:+.2f} [{row.log2_best_low:+.2f}, {row.log2_best_high:+.2f}]"
            + (f" ({row.at_edge} of {row.seeds} seeds at the edge)" if row.at_edge else "")
            for row in self.best.itertuples()
        )
        return f"Best rate, in doublings of the recipe's: {said}."

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + table(self.best) + table(self.shifts)


def rate_sweep(
    recipes: Mapping[str, Recipe],
    factors: Sequence[float] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    told: Callable[[str], None] | None = None,
) -> RateSweep:
    """Train every recipe with every factor on its rates, on the same tokens in the same order for a seed.

    Raises InputError for fewer than two recipes or three factors, or factors that are not above 0.
    """
    if len(recipes) < 2 or len(set(factors)) < 3 or min(factors) <= 0 or not seeds:
        raise InputError(
            f"A sweep of {len(recipes)} recipes over the factors {list(factors)}: at least two recipes, three factors "
            "above 0 and a seed were expected, or no optimum can be compared."
        )
    quiet()
    rows = []
    for arm, recipe in recipes.items():
        for seed in seeds:
            for factor in sorted(set(factors)):
                if told is not None:
                    told(f"{arm}: rate x {factor:g}, seed {seed}")
                scaled = {name: getattr(recipe.train, name) * factor for name in _RATES}
                loss = _trained(recipe.changed(seed=seed, **scaled))
                rows.append(
                    {
                        "arm": arm,
                        "factor": factor,
                        "seed": seed,
                        "loss": loss,
                        "diverged": np.isnan(loss),
                    }
                )
    frame = pd.DataFrame(rows)
    return _read(frame, list(recipes))


def _trained(recipe: Recipe) -> float:
    """Mean loss over the last steps, in nats; NaN where the training diverged."""
    texts = texts_of(recipe.text)
    mixture = Mixture(texts.train, recipe.train.seed)
    training = Steps(recipe, texts.vocabulary)
    losses = []
    for _ in range(recipe.train.steps):
        losses.append(training.advance(mixture)["nll"])
        if not np.isfinite(losses[-1]):
            return float("nan")
    return float(np.mean(losses[-max(1, round(LAST * len(losses))) :]))


def _read(frame: Frame, arms: list[str]) -> RateSweep:
    rows: list[dict[str, Any]] = []
    for arm in arms:
        for seed, part in frame[frame["arm"] == arm].groupby("seed"):
            place, edge = optimum(part["factor"].to_numpy(float), part["loss"].to_numpy(float))
            rows.append({"arm": arm, "seed": seed, "log2_best": place, "at_edge": edge})
    found: Any = pd.DataFrame(rows)
    best = over_seeds(found, ["arm"], ["log2_best"]).merge(
        found.groupby("arm")["at_edge"].sum().reset_index(), on="arm"
    )
    best = best.set_index("arm").loc[arms].reset_index()
    wide = found.pivot(index="seed", columns="arm", values="log2_best")
    shifts = pd.concat(
        [
            pd.DataFrame({"arm": arm, "seed": wide.index, "shift": wide[arm] - wide[arms[0]]})
            for arm in arms[1:]
        ],
        ignore_index=True,
    )
    moved = over_seeds(shifts, ["arm"], ["shift"]).set_index("arm").loc[arms[1:]].reset_index()
    return RateSweep(frame, best, moved)


def optimum(factor: np.ndarray, loss: np.ndarray) -> tuple[float, bool]:
    """(log2 of the best factor, whether the lowest point is at an edge); diverged trainings count as infinite.

    Between three finite points the bottom of their parabola. Raises InputError where every training diverged.
    """
    order = np.argsort(factor)
    x, y = np.log2(factor[order]), np.where(np.isfinite(loss[order]), loss[order], np.inf)
    if not np.isfinite(y).any():
        raise InputError("Every training of the sweep diverged. Give smaller factors.")
    i = int(np.argmin(y))
    if i in (0, len(y) - 1):
        return float(x[i]), True
    near_x, near_y = x[i - 1 : i + 2], y[i - 1 : i + 2]
    if not np.isfinite(near_y).all():
        return float(x[i]), False
    a, b, _ = np.polyfit(near_x, near_y, 2)
    return (float(-b / (2 * a)) if a > 0 else float(x[i])), False
