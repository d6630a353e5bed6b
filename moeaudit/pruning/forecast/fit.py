"""Loss after pruning from the signs of a model, learnt on other recipes: prediction, interval, and how far to trust it.

Loss differences span powers of ten, so their logarithm is fitted: ridge regression on standardised signs, the
penalty chosen among `PENALTIES` by leaving one recipe out. Models of one recipe differ by their seed alone, so the
recipe is the unit of everything here: what is left out, what an interval is over, what an error is averaged over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError
from moeaudit.frames import Frame

PENALTIES = (0.1, 1.0, 10.0, 100.0)
FLOOR = 1e-3  # nats: a pruned model that loses less is counted as losing this
LEAST_RECIPES = 5
_SAME = 1e-6  # of log losses


@dataclass(frozen=True)
class Ridge:
    """log(loss) = mean + sum of slopes * (sign - centre) / scale."""

    signs: tuple[str, ...]
    centre: Float[np.ndarray, " signs"]
    scale: Float[np.ndarray, " signs"]
    slopes: Float[np.ndarray, " signs"]
    mean: float

    def __call__(self, x: Float[np.ndarray, "models signs"]) -> Float[np.ndarray, " models"]:
        """Predicted log of the loss in nats."""
        return self.mean + ((x - self.centre) / self.scale) @ self.slopes


def ridge(
    x: Float[np.ndarray, "models signs"],
    y: Float[np.ndarray, " models"],
    weight: Float[np.ndarray, " models"],
    penalty: float,
    signs: Sequence[str] = (),
) -> Ridge:
    """Ridge regression of y on the columns of x, each model weighted. No sign at all gives the mean."""
    weight = weight / weight.sum()
    centre = weight @ x
    scale = np.sqrt(weight @ (x - centre) ** 2)
    scale = np.where(scale > 0, scale, 1.0)
    z, mean = (x - centre) / scale, float(weight @ y)
    gram = (z * weight[:, None]).T @ z + penalty / len(y) * np.eye(x.shape[1])
    slopes = np.linalg.solve(gram, (z * weight[:, None]).T @ (y - mean))
    return Ridge(tuple(signs), centre, scale, slopes, mean)


def weights(recipe: np.ndarray) -> Float[np.ndarray, " models"]:
    """Each recipe counts as one, however many seeds it was trained with."""
    place = np.unique(recipe, return_inverse=True)[1]
    return 1.0 / np.bincount(place)[place]


def means(values: Float[np.ndarray, " models"], recipe: np.ndarray) -> np.ndarray:
    """Mean of each recipe, in the order of their names."""
    place = np.unique(recipe, return_inverse=True)[1]
    return np.bincount(place, values) / np.bincount(place)


def fitted(
    x: Float[np.ndarray, "models signs"],
    y: Float[np.ndarray, " models"],
    recipe: np.ndarray,
    signs: Sequence[str] = (),
) -> Ridge:
    """The ridge whose penalty predicts recipes left out best."""
    errors = [_error(_left_out(x, y, recipe, p) - y, recipe) for p in PENALTIES]
    return ridge(x, y, weights(recipe), PENALTIES[int(np.argmin(errors))], signs)


def _left_out(x: np.ndarray, y: np.ndarray, recipe: np.ndarray, penalty: float) -> np.ndarray:
    out = np.empty(len(y))
    for name in np.unique(recipe):
        mine = recipe == name
        out[mine] = ridge(x[~mine], y[~mine], weights(recipe[~mine]), penalty)(x[mine])
    return out


def _error(residual: np.ndarray, recipe: np.ndarray) -> float:
    """Root mean square over recipes of the root mean square within each."""
    return float(np.sqrt(means(residual**2, recipe).mean()))


def left_out(table: Any, target: str, signs: Sequence[str], level: float | None = 0.8) -> Frame:
    """Every model predicted from the models of the other recipes alone.

    Args:
        table: one row a model: `recipe`, the signs, and `target`, nats lost by pruning.
        target: the column to predict.
        signs: columns to predict from; none gives the mean of the other recipes, which needs no census.
        level: of the intervals; None for none, which takes half the time.

    Returns:
        recipe, lost, predicted, low, high (nats) a model. Limits are the prediction times and over the
        factor that holds `level` of the other recipes when each of *them* is left out (the jackknife+ by groups of
        Barber et al., 2021, in its symmetric form): they never use the recipe they are about.

    Raises InputError for fewer than 5 recipes, and for a sign without a number.
    """
    x, y, recipe = arrays(table, target, signs)
    predicted, reach = np.empty(len(y)), np.full(len(y), np.nan)
    for name in np.unique(recipe):
        mine = recipe == name
        predicted[mine] = fitted(x[~mine], y[~mine], recipe[~mine])(x[mine])
        if level is not None:
            reach[mine] = spread(x[~mine], y[~mine], recipe[~mine], level)
    return _told(recipe, y, predicted, reach)


def arrays(
    table: Any, target: str, signs: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(signs, log of the loss, recipe) of a table. Raises InputError as `left_out` says."""
    recipe = table["recipe"].to_numpy(str)
    require_recipes(len(np.unique(recipe)))
    if lost := int(table[target].isna().sum()):
        raise InputError(
            f"{target} has no number for {lost} of the models. A forecast is learnt from what models lost: leave those "
            "out."
        )
    missing = [name for name in signs if table[name].isna().any()]
    if missing:
        lacking = int(table[missing[0]].isna().sum())
        raise InputError(
            f"The sign {missing[0]} has no number for {lacking} of the models. Leave it out, or leave those models out."
        )
    x = table[list(signs)].to_numpy(np.float64)
    return x, np.log(np.maximum(table[target].to_numpy(np.float64), FLOOR)), recipe


def require_recipes(found: int) -> None:
    """Raise InputError for too few recipes to leave one out and still have an interval."""
    if found < LEAST_RECIPES:
        models = "1 recipe" if found == 1 else f"{found} recipes"
        raise InputError(
            f"A forecast is learnt from models of {models}; {LEAST_RECIPES} or more are needed, since each is "
            "left out in turn and the interval is over recipes. Seeds of one recipe count as one."
        )


def spread(x: np.ndarray, y: np.ndarray, recipe: np.ndarray, level: float) -> float:
    """The log factor that holds `level` of recipes left out; the largest one where they are too few for that level."""
    penalty = PENALTIES[
        int(np.argmin([_error(_left_out(x, y, recipe, p) - y, recipe) for p in PENALTIES]))
    ]
    residual = np.abs(_left_out(x, y, recipe, penalty) - y)
    worst = np.sort([residual[recipe == name].max() for name in np.unique(recipe)])
    return float(worst[min(len(worst), math.ceil(level * (len(worst) + 1))) - 1])


def _told(
    recipe: np.ndarray, y: np.ndarray, predicted: np.ndarray, spread: np.ndarray | float
) -> Frame:
    return pd.DataFrame(
        {
            "recipe": recipe,
            "lost": np.exp(y),
            "predicted": np.exp(predicted),
            "low": np.exp(predicted - spread),
            "high": np.exp(predicted + spread),
        }
    )


def trust(told: Frame, baseline: Frame, level: float = 0.95) -> dict[str, float]:
    """How far a forecast can be trusted, by recipe, beside one that needs no census.

    Returns `factor`, by how much predictions are typically off (exp of the root mean square log error), `baseline`
    the same of the baseline (all null where every model loses the same), `gain` = 1 - error / baseline's error with
    `gain_low`, `gain_high` (the jackknife over
    recipes, Student's t), and `covered`, the share of models inside their limits.
    """
    from scipy.stats import t

    recipe = told["recipe"].to_numpy(str)
    mine, theirs = (
        means(np.log(np.asarray(each["predicted"] / each["lost"])) ** 2, recipe)
        for each in (told, baseline)
    )
    n = len(mine)
    if (
        theirs.max() < _SAME**2
    ):  # every model loses the same, or less than the floor: nothing to be better at
        mine, theirs = np.full(n, np.nan), np.full(n, np.nan)

    def gain(kept: np.ndarray) -> float:
        return 1 - math.sqrt(mine[kept].mean() / theirs[kept].mean())

    whole = gain(np.ones(n, bool))
    without = np.array([gain(np.arange(n) != i) for i in range(n)])
    se = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    reach = float(t.ppf(0.5 + level / 2, n - 1)) * se
    lost = np.asarray(told["lost"])
    inside = (lost >= np.asarray(told["low"])) & (lost <= np.asarray(told["high"]))
    return {
        "factor": math.exp(math.sqrt(mine.mean())),
        "baseline": math.exp(math.sqrt(theirs.mean())),
        "gain": whole,
        "gain_low": whole - reach,
        "gain_high": whole + reach,
        "covered": float(means(inside.astype(np.float64), recipe).mean()),
        "recipes": n,
    }


def fragile(table: Any, target: str, signs: Sequence[str]) -> dict[str, Any]:
    """The recipe without which `signs` are worth the least, and what they are worth there.

    Returns `recipe`, `gain`, `gain_low`, `gain_high` (all null where a table without one recipe is too small to be
    judged). A gain that one recipe makes is none of the signs' own.
    """
    if table["recipe"].nunique() <= LEAST_RECIPES:
        return {"recipe": "any of them", "gain": None, "gain_low": None, "gain_high": None}
    found = []
    for name in sorted(set(table["recipe"])):
        rest = table[table["recipe"] != name]
        told = trust(left_out(rest, target, signs, None), left_out(rest, target, [], None))
        found.append({"recipe": name, **{k: told[k] for k in ("gain", "gain_low", "gain_high")}})
    return min(found, key=lambda each: each["gain_low"])
