"""Cards of well-known MoE models: router, sizes, what a census costs, what this suite can and cannot do with them."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from moeaudit.errors import one_of

_HERE = Path(__file__).parent
AUDITS = ("yes", "memory", "object", "no")


@dataclass(frozen=True)
class Sizes:
    """Computed from transformers' class without weights, and for documents of 128 tokens, every removal.

    `parameters` and `active` are numbers of weights, `tflop` 10^12 operations a document, `forwards` that in clean
    passes over the document; `h100_seconds` is reckoned for 160 documents (docs/costs.md), None if it does not fit.
    """

    architecture: str
    parameters: int
    active: int
    layers: int
    moe_layers: int
    first_moe_layer: int
    experts: int
    top_k: int
    removals: int
    tflop: float
    forwards: float
    h100_seconds: float | None


@dataclass(frozen=True)
class Card:
    """One model. `model_type` is None, and `sizes` too, where transformers has no class for it.

    `audit`: "yes", "memory" (on a machine that holds or streams it), "object" (give the loaded model), or "no";
    `can` and `cannot` say what and why. `values` is what differs from the class's defaults.
    """

    name: str
    hub: str | None
    model_type: str | None
    published: str
    score: str
    weights_sum: str
    router: str
    shared: str | None
    dense: str
    audit: str
    can: str
    cannot: str | None
    source: str
    sizes: Sizes | None = None
    values: dict[str, Any] = field(default_factory=dict)


def cards() -> tuple[Card, ...]:
    """All cards, the models this suite was made for first."""
    return tuple(_cards().values())


def card(name: str) -> Card:
    """The card of a model by its name or hub id. Raises InputError for one that has none."""
    by_hub = {each.hub: each.name for each in _cards().values() if each.hub}
    return _cards()[one_of(by_hub.get(name, name), _cards(), "model with a card")]


@cache
def _cards() -> dict[str, Card]:
    told = tomllib.loads((_HERE / "cards.toml").read_text("utf-8"))["card"]
    sizes = json.loads((_HERE / "sizes.json").read_text("utf-8"))
    return {each["name"]: _card(each, sizes.get(each["name"])) for each in told}


def _card(told: dict[str, Any], sizes: dict[str, Any] | None) -> Card:
    said = {name: value or None for name, value in told.items() if name != "values"}
    # TOML has no null: "none" among the values stands for it.
    values = {k: None if v == "none" else v for k, v in told.get("values", {}).items()}
    return Card(
        **{"hub": None, "model_type": None, "shared": None, "cannot": None, **said},
        values=values,
        sizes=None if sizes is None else Sizes(**sizes),
    )
