"""What a token is coloured by: an outcome, the layer or the expert that matters most for it, or a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame

from ..explore.data import OUTCOMES
from ..words.evidence import metric_name, outcome_name
from ..words.numbers import significant
from .shown import hue, shade

BY = ("layer", "expert")


@dataclass(frozen=True)
class Colours:
    """`value` of each position, its `css`, a short `mark` beside the token ("" for none), and what it is, in words."""

    value: dict[int, float]
    css: Callable[[float], str]
    mark: Callable[[float], str]
    said: str


def colours(rows: Frame, color: str, layer: int | None, metrics: Frame | None) -> Colours:
    """Colours of the tokens of one document. `rows` are its effects, of one layer or of all.

    Raises InputError for a colour that is neither an outcome of the effects, "layer", "expert" nor a metric.
    """
    known = [name for name in (*OUTCOMES, *_further(rows)) if name in rows]
    named = [] if metrics is None else [str(name) for name in metrics["metric"].unique()]
    if color not in (*known, *BY, *named) and metrics is None:
        _require(color, known)
    one_of(color, [*known, *BY, *named], "color=")
    if color in known:
        return _outcome(rows, color, layer)
    if color == "layer":
        return _strongest_layer(rows)
    if color == "expert":
        return _expert(rows, layer)
    assert metrics is not None
    return _metric(rows, color, metrics, layer)


def _require(color: Any, known: list[str]) -> None:
    raise InputError(
        f"Unknown color={color!r}. Choose one of {', '.join([*known, *BY])}. To colour by a routing metric give "
        "metrics=ma.expert_metrics(trace), or the run, which has its own."
    )


def _further(rows: Frame) -> list[str]:
    """Outcomes besides the three: delta_entropy and the like."""
    names = [str(name) for name in rows.columns if name not in OUTCOMES]
    return [name for name in names if name.startswith(("delta_", "contrast_"))]


def _outcome(rows: Frame, name: str, layer: int | None) -> Colours:
    means = rows.groupby("position")[name].mean().astype("float64")
    top = float(means.abs().quantile(0.98)) or float(means.abs().max())
    where = "" if layer is None else f" in layer {layer}"
    unit = OUTCOMES[name]["unit"] if name in OUTCOMES else "its own unit"
    return Colours(
        {int(p): float(v) for p, v in means.items()},
        lambda v: shade(v, top),
        lambda v: "",  # noqa: ARG005
        f"Colour: the mean {outcome_name(name).lower()} of the token's rows{where} ({unit}); full at "
        f"{significant(top, 2)}, orange above zero, blue below.",
    )


def _worst(rows: Frame) -> Frame:
    """The row of each position with the largest |harm|."""
    size = rows["delta_nll"].abs().to_numpy()
    order = np.lexsort((-size, rows["position"].to_numpy()))
    return rows.iloc[order].drop_duplicates("position")


def _strongest_layer(rows: Frame) -> Colours:
    worst = _worst(rows)
    layers = sorted({int(layer) for layer in rows["layer"]})
    most = max(layers) or 1
    return Colours(
        {int(p): float(y) for p, y in zip(worst["position"], worst["layer"])},
        lambda y: f"background:rgba(113,84,165,{0.08 + 0.5 * y / most:.2f})",
        lambda y: str(int(y)),
        "Colour and number: the layer of the edit with the largest |harm|; deeper layers are darker.",
    )


def _expert(rows: Frame, layer: int | None) -> Colours:
    """As the page has it: whose edit has the largest |harm|, not whose weight is largest."""
    worst = _worst(rows)
    of = int(rows["expert"].max()) + 1
    where = "of all layers, each numbering its own" if layer is None else f"of layer {layer}"
    return Colours(
        {int(p): float(e) for p, e in zip(worst["position"], worst["expert"])},
        lambda e: hue(int(e), of),
        lambda e: str(int(e)),
        f"Colour and number: the expert {where}, whose edit has the largest |harm|; colours only tell experts apart.",
    )


def _metric(rows: Frame, metric: str, metrics: Frame, layer: int | None) -> Colours:
    scores = metrics[metrics["metric"].astype(str) == metric][["layer", "expert", "value"]]
    joined = rows.merge(scores, on=["layer", "expert"], how="left")
    weight = joined["weight"].where(joined["value"].notna(), 0.0)
    sums = (joined["value"].fillna(0.0) * weight).groupby(joined["position"]).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / weight.groupby(joined["position"]).sum()
    known = means[np.isfinite(means)]
    if known.empty:
        raise InputError(
            f"No expert of this document has a value of {metric}. Choose another metric, or measure them on the same "
            "model."
        )
    low, high = float(known.min()), float(known.max())
    where = "" if layer is None else f" in layer {layer}"
    return Colours(
        {int(p): float(v) for p, v in known.items()},
        lambda v: f"background:rgba(113,84,165,{0.05 + 0.5 * (v - low) / ((high - low) or 1):.2f})",
        lambda v: "",  # noqa: ARG005
        f"Colour: {metric_name(metric)[0]} of the token's experts{where}, mean by gate weight; from "
        f"{significant(low, 3)} (light) to {significant(high, 3)} (dark).",
    )
