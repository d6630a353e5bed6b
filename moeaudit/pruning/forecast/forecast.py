"""`forecast`: what pruning will cost a model, from a census of few documents and what other models lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.models import Model

from ..steps import Steps
from .fit import arrays, fitted, left_out, spread, trust
from .signs import SIGNS, Signs, signs_of

LEVEL = 0.8
TARGETS = {"lost_25": 0.75, "lost_50": 0.5}  # column of the table: share of the experts that stays


@dataclass(frozen=True, repr=False)
class Forecast:
    """The loss that pruning is expected to add, nats a token, before anything is pruned.

    `table`: one row a share that stays (`keep`): `lost` with `low` and `high` (limits that held `level` of the recipes
    left out, in the table it was learnt from), `signs` (how many were used), `outside` (signs of this model beyond
    those of every model it was learnt from), `factor` (by how much forecasts of recipes left out were off), `baseline`
    (the same of a forecast that knows nothing of the model), `gain`, `gain_low`, `gain_high` (1 - error / baseline's
    error, 95 % over recipes) and `trusted`: whether the gain is above 0 and nothing is outside.
    """

    signs: Signs
    table: Frame
    recipes: int
    models: int
    criterion: str
    level: float = LEVEL

    def sentences(self) -> list[str]:
        """What the forecast says, and how far it can be trusted."""
        out = []
        for row in self.table.itertuples():
            if row.gain != row.gain:
                out.append(
                    f"All {self.models} models it was learnt from lost the same with {row.keep:.0%} of the experts, so "
                    "nothing is forecast there."
                )
                continue
            out.append(
                f"Keeping {row.keep:.0%} of the experts by {self.criterion}: {row.lost:.2g} nats a token more are "
                f"expected, {row.low:.2g} to {row.high:.2g} in {self.level:.0%} of recipes."
            )
            said = (
                f"Learnt from {self.models} models of {self.recipes} recipes. Of recipes left out it was off by a "
                f"factor of {row.factor:.2g}, a forecast that knows nothing of the model by {row.baseline:.2g}"
            )
            if row.gain_low <= 0:
                said += (
                    "; the two are not told apart, so the signs are worth no more than that here"
                )
            out.append(f"{said}.")
            if row.outside:
                out.append(
                    f"{row.outside}: beyond every model that it was learnt from, so this is an extrapolation."
                )
        return out

    def __repr__(self) -> str:
        return f"Forecast of pruning {self.signs.model}: " + " ".join(self.sentences())


def forecast(
    model: Model,
    docs: Any,
    *,
    table: Any,
    criterion: str = "the criterion of the table",
    level: float = LEVEL,
    max_length: int | None = None,
    progress: Steps | None = None,
) -> Forecast:
    """What pruning a quarter and a half of the experts will cost `model`; nothing is pruned for it.

    Args:
        model: a loaded model of top-2 or more.
        docs: a few dozen documents (8 at least), as for `ablate`.
        table: models to learn from, one row each: `recipe`, the signs, `lost_25` and `lost_50` (nats): a DataFrame, or
            the models.csv that `python -m analyses.lab.prunability` writes.
        criterion: what pruned them, for the words.
        level: of the limits.
        max_length: longest piece of text in tokens, as in `ablate`.

    Raises InputError as `signs_of` does, for a table of fewer than 5 recipes, and without its columns.
    """
    known: Any = table if isinstance(table, pd.DataFrame) else pd.read_csv(table)
    missing = {"recipe", *TARGETS} - set(known.columns)
    if missing:
        raise InputError(
            f"The table of a forecast lacks {', '.join(sorted(missing))}. It needs recipe, {', '.join(TARGETS)} and "
            "signs, one row a model, as the models.csv of python -m analyses.lab.prunability has them."
        )
    found = signs_of(model, docs, max_length=max_length, progress=progress)
    return of_signs(found, known, criterion, level)


def of_signs(found: Signs, known: Any, criterion: str, level: float = LEVEL) -> Forecast:
    """The forecast for a model whose signs are known."""
    usable = [
        name
        for name in SIGNS
        if name in known and not known[name].isna().any() and found.values[name] is not None
    ]
    mine = np.array([[float(found.values[name] or 0.0) for name in usable]])
    outside = [
        name
        for name, value in zip(usable, mine[0])
        if not known[name].min() <= value <= known[name].max()
    ]
    rows = []
    for target, keep in TARGETS.items():
        x, y, recipe = arrays(known, target, usable)
        centre = float(fitted(x, y, recipe)(mine)[0])
        reach = spread(x, y, recipe, level)
        told = trust(left_out(known, target, usable, level), left_out(known, target, [], level))
        rows.append(
            {
                "keep": keep,
                "lost": math.exp(centre),
                "low": math.exp(centre - reach),
                "high": math.exp(centre + reach),
                "signs": len(usable),
                "outside": ", ".join(outside),
                **{k: told[k] for k in ("factor", "baseline", "gain", "gain_low", "gain_high")},
                "trusted": told["gain_low"] > 0 and not outside,
            }
        )
    return Forecast(
        found, pd.DataFrame(rows), known["recipe"].nunique(), len(known), criterion, level
    )
