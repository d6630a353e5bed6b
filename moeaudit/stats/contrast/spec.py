"""The analysis declared before the effects are seen: frozen, hashed, and used to mark tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, one_of

from ..declared import Declared
from ..families.families import Family
from .checks import OUTCOMES
from .controls import CONTROLS, check_controls
from .protocol import PROTOCOLS, Defects, Protocol, get_protocol

CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"


@dataclass(frozen=True)
class Spec(Declared):
    """What will be asked, and how it will be answered.

    `context` holds what else should not change unseen: model and corpus hashes, seeds of other
    stages. Every field enters the hash.
    """

    metrics: tuple[str, ...]
    layers: tuple[int, ...]
    outcomes: tuple[str, ...] = ("delta_nll",)
    questions: tuple[str, ...] = ("within-token contrast",)
    controls: tuple[str, ...] = tuple(CONTROLS)
    protocol: Protocol = PROTOCOLS["moeaudit"]
    seed: int = 0
    context: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_controls(self.controls)
        for name in ("metrics", "layers", "outcomes", "questions"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InputError(f"A spec needs {name}, each once; it was given {values!r}.")
        for outcome in self.outcomes:
            one_of(outcome, OUTCOMES, "outcome")

    @property
    def family(self) -> Family:
        """The declared family of one outcome: every metric in every layer."""
        cells = tuple((m, y) for m in self.metrics for y in self.layers)
        return Family("metrics by layers", cells, self.protocol.alpha, single=len(cells) == 1)

    def to_json(self) -> str:
        """Canonical JSON, which `from_json` reads."""
        return self.canonical()

    @staticmethod
    def from_json(text: str) -> Spec:
        """Read what `to_json` wrote; refuses unknown or missing fields."""
        try:
            data = json.loads(text)
            protocol = dict(data["protocol"])
            protocol["defects"] = Defects(**protocol["defects"])
            if protocol["metrics"] is not None:
                protocol["metrics"] = tuple(protocol["metrics"])
            data["protocol"] = Protocol(**protocol)
            data["context"] = tuple((str(a), str(b)) for a, b in data["context"])
            for name in ("metrics", "layers", "outcomes", "questions", "controls"):
                data[name] = tuple(data[name])
            return Spec(**data)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not an audit spec ({error}). Expected the JSON that Spec.to_json wrote, "
                f"with the fields {', '.join(f.name for f in fields(Spec))}."
            ) from error


def freeze(
    metrics: list[str],
    layers: list[int],
    *,
    outcomes: tuple[str, ...] = ("delta_nll",),
    questions: tuple[str, ...] = ("within-token contrast",),
    controls: tuple[str, ...] = tuple(CONTROLS),
    protocol: str | Protocol = "moeaudit",
    seed: int = 0,
    context: dict[str, Any] | None = None,
    **settings: Any,
) -> Spec:
    """A spec from plain values; `settings` change the protocol. Call before effects are computed."""
    recipe = get_protocol(protocol).with_(**settings)
    pairs = tuple(sorted((str(k), str(v)) for k, v in (context or {}).items()))
    metric_names = tuple(str(m) for m in metrics)
    indices = tuple(int(y) for y in layers)
    return Spec(metric_names, indices, outcomes, questions, controls, recipe, seed, pairs)


def mark(table: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """The table with a column `status`: confirmatory where the spec declared the row, else exploratory.

    A row is declared if its question, outcome, metric (or control) and layer all are; a row
    without a layer (pooled) needs the first three. A family larger or smaller than the declared one
    makes all of a table's metric rows exploratory, since their corrections answer another question.
    """
    for column in ("question", "outcome", "metric"):
        if column not in table:
            raise InputError(f"A table to be marked needs the column {column}.")
    known = (
        table["question"].isin(spec.questions)
        & table["outcome"].isin(spec.outcomes)
        & table["metric"].isin([*spec.metrics, *spec.controls])
    )
    if "layer" in table and bool(table["layer"].notna().any()):
        known &= table["layer"].isin(spec.layers)
        if "family_size" in table:
            role = table.get("role", pd.Series("metric", index=table.index))
            known &= (role != "metric") | (table["family_size"] == len(spec.family))
    known = known.fillna(False).astype(bool)
    return table.assign(status=np.where(known.to_numpy(), CONFIRMATORY, EXPLORATORY))
