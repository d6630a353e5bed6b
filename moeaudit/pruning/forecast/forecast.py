"""`forecast`: what pruning will cost a model, from a census of few documents and what other models lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.models import Model

from ..steps import Steps
from .fit import arrays, fitted, left_out, spread, trust
from .known import TARGETS, Known, known
from .signs import SIGNS, Signs, signs_of
from .text import DOCUMENTS, TOKENS, few
from .words import headline, sentences

LEVEL = 0.8


@dataclass(frozen=True, repr=False)
class Forecast:
    """The loss that pruning is expected to add, nats a token, before anything is pruned.

    `table`: one row a share that stays (`keep`): `lost` with `low` and `high` (limits that held `level` of the recipes
    left out, in the table it was learnt from); `mean`, `mean_low`, `mean_high`, the same of the mean of the table's
    recipes, which needs no census; `signs` (how many were used), `outside` (signs of this model beyond those of every
    model it was learnt from), `factor` (by how much forecasts of recipes left out were off), `baseline` (the same of
    the mean), `gain`, `gain_low`, `gain_high` (1 - error / the mean's error, 95 % over recipes), `covered` (share of
    the models left out within their limits), `rests_on` (the one recipe of the table without which no gain is shown,
    else empty) and `trusted`: whether the gain is above 0 and rests on no single recipe, and nothing is outside.

    `ranges`: one row a sign: `value` of this model, `low` and `high` of the table's models, `used`, `outside`.
    """

    signs: Signs
    table: Frame
    ranges: Frame
    known: Known
    parameters: int | None = None
    level: float = LEVEL
    notes: tuple[str, ...] = ()
    rests: Mapping[float, Any] = field(
        default_factory=dict
    )  # by `keep`: the gain without the recipe of `rests_on`

    @property
    def model(self) -> str:
        return self.signs.model

    @property
    def headline(self) -> str:
        """What the deeper cut is expected to cost, and whether the forecast knows more than the mean."""
        return headline(self)

    def sentences(self) -> list[str]:
        """What the forecast says, and how far it can be trusted."""
        return sentences(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for a file: `loss` and `signs` are the rows of `table` and `ranges`."""
        return {
            "headline": self.headline,
            "sentences": self.sentences(),
            "table": self.known.name,
            "criterion": self.known.criterion,
            "recipes": self.known.recipes,
            "models": len(self.known.frame),
            "level": self.level,
            "documents": self.signs.documents,
            "tokens": self.signs.tokens,
            "parameters": self.parameters,
            "loss": self.table,
            "signs": self.ranges,
            "reasons": self.signs.reasons,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return " ".join([f"{self.headline}.", *self.sentences(), *self.notes])


def forecast(
    model: Any,
    docs: Any = None,
    *,
    table: Any = None,
    level: float = LEVEL,
    max_length: int | None = None,
    progress: Steps | None = None,
) -> Forecast:
    """What pruning a quarter and a half of the experts will cost `model`; nothing is pruned for it.

    Args:
        model: a loaded model of top-2 or more.
        docs: a few dozen documents (8 at least), as for `ablate`. None are those that the package's table was read on:
            the first 48 tokens of 16 documents of the bundled corpus.
        table: models to learn from, one row each: `recipe`, the signs, `lost_25` and `lost_50` (nats): a DataFrame, or
            the models.csv that `python -m analyses.lab.prunability` writes. None is the table that comes with the
            package.
        level: of the limits.
        max_length: longest piece of text in tokens, as in `ablate`.

    Raises InputError as `signs_of` does, and as `known` does for a table that cannot be learnt from.
    """
    learnt = known(table)
    if not isinstance(model, Model):
        raise InputError(
            f"forecast() was given a {type(model).__name__} as its model; load it first: "
            "forecast(moeaudit.load(...), docs)."
        )
    texts = few(model, None, learnt) if docs is None else docs
    found = signs_of(model, texts, max_length=max_length, progress=progress)
    return of_signs(found, learnt, level, model.provenance.get("parameters"))


def of_signs(found: Signs, table: Any, level: float = LEVEL, parameters: Any = None) -> Forecast:
    """The forecast for a model whose signs are known; `table` as for `forecast`."""
    learnt = known(table)
    frame: Any = learnt.frame
    holes = {name: int(frame[name].isna().sum()) for name in SIGNS}
    usable = [name for name in SIGNS if not holes[name] and found.values[name] is not None]
    ranges = _ranges(found, frame, usable)
    outside = ranges.loc[ranges["outside"], "sign"].tolist()
    mine = np.array([[float(found.values[name] or 0.0) for name in usable]])
    rows, rests = [], {}
    for target, keep in TARGETS.items():
        x, y, recipe = arrays(frame, target, usable)
        row: dict[str, Any] = {"keep": keep}
        for name, columns, at in (("lost", x, mine), ("mean", x[:, :0], mine[:, :0])):
            centre = float(fitted(columns, y, recipe)(at)[0])
            reach = spread(columns, y, recipe, level)
            before = "" if name == "lost" else "mean_"
            row[name] = math.exp(centre)
            row[f"{before}low"], row[f"{before}high"] = (
                math.exp(centre - reach),
                math.exp(centre + reach),
            )
        told = trust(left_out(frame, target, usable, level), left_out(frame, target, [], level))
        row |= {"signs": len(usable), "outside": ", ".join(outside)}
        row |= {
            k: told[k] for k in ("factor", "baseline", "gain", "gain_low", "gain_high", "covered")
        }
        rest = learnt.rests_on(target, usable) if told["gain_low"] > 0 else None
        row["rests_on"] = "" if rest is None else rest["recipe"]
        if rest is not None:
            rests[keep] = rest
        trusted = told["gain_low"] > 0 and not outside and not row["rests_on"]
        rows.append({**row, "trusted": bool(trusted)})
    size = None if parameters is None else int(parameters)
    notes = _notes(found, learnt, holes)
    return Forecast(found, pd.DataFrame(rows), ranges, learnt, size, level, notes, rests)


def _ranges(found: Signs, frame: Any, usable: list[str]) -> Frame:
    rows = []
    for name in SIGNS:
        value, low, high = found.values[name], frame[name].min(), frame[name].max()
        beyond = name in usable and not low <= value <= high
        rows.append((name, value, low, high, name in usable, beyond))
    out = pd.DataFrame(rows, columns=["sign", "value", "low", "high", "used", "outside"])
    return out.astype({"value": float, "low": float, "high": float})


def _notes(found: Signs, learnt: Known, holes: dict[str, int]) -> tuple[str, ...]:
    """What was left out, and in what the census is not the table's."""
    notes = [
        f"{name} was not used: {found.reasons.get(name, 'this model has none')}."
        for name in SIGNS
        if found.values[name] is None
    ]
    notes += [
        f"{name} was not used: {lacking} of the table's {len(learnt.frame)} models have none."
        for name, lacking in holes.items()
        if lacking and found.values[name] is not None
    ]
    if not learnt.about:
        notes.append(
            f"Nothing stands beside {learnt.name} that says by which criterion, on which text and by which version it "
            "was made; signs are compared as if by this one."
        )
        return (*notes, *found.notes)
    if learnt.about.get("quick"):
        notes.append(
            f"{learnt.name} was made by a run with --quick, of models of a dozen steps: it means nothing."
        )
    # Predicted tokens: of a document of n, n - 1.
    documents = learnt.amount("documents", DOCUMENTS)
    tokens = documents * (learnt.amount("tokens", TOKENS) - 1)
    if found.documents and not (found.documents == documents and 0.8 <= found.tokens / tokens <= 1):
        notes.append(
            f"Signs were read on {found.documents:,} documents with {found.tokens:,} predicted tokens, those of the "
            f"table on {documents} with up to {tokens:,}. Concentration, the additive signs and agreement move with "
            "the amount of text, so the two compare best at the same."
        )
    return (*notes, *found.notes)
