"""The face of harm against a metric: a panel a layer, a point an expert."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.frames import Frame
from moeaudit.stats.least import REMOVALS_FOR_LIMITS

from ..figures.figure import styled
from ..words.evidence import metric_name, outcome_name
from ..words.numbers import estimate, fixed, interval
from .sheet import inert

if TYPE_CHECKING:
    import plotly.graph_objects as go

PER_ROW, PANEL, GAP = 4, 190, 96
SYMBOLS = {False: "circle", True: "circle-open"}  # by whether removals are few
NATS = ("delta_nll", "abs_delta_nll", "kl", "delta_entropy")


def face(
    points: Frame, metric: str, outcome: str, ranks: dict[int, dict[str, Any]], many: str
) -> go.Figure:
    """Small multiples by layer: the metric across, the mean outcome up, both as they are."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    layers = sorted({int(layer) for layer in points["layer"]})
    across = min(PER_ROW, len(layers))
    down = math.ceil(len(layers) / across)
    plot = make_subplots(
        rows=down, cols=across, subplot_titles=[_heading(y, ranks.get(y)) for y in layers],
        horizontal_spacing=0.24 / across, vertical_spacing=GAP / (PANEL * down + GAP * (down - 1)),
    )  # fmt: skip
    unit = "nats" if outcome in NATS else ""
    kind, measured = outcome_name(outcome).lower(), inert(metric_name(metric)[0])
    for i, layer in enumerate(layers):
        mine = points[points["layer"] == layer]
        few = (mine["rows"] < REMOVALS_FOR_LIMITS).to_numpy()
        plot.add_trace(
            go.Scatter(
                x=_short(mine["value"]),
                y=_short(mine["harm"]),
                error_y={
                    "type": "data",
                    "array": _short(mine["harm_high"] - mine["harm"]),
                    "arrayminus": _short(mine["harm"] - mine["harm_low"]),
                    "thickness": 1,
                    "width": 0,
                    "color": "#b9b9b9",
                },
                mode="markers",
                showlegend=False,
                name=f"layer {layer}",
                marker={
                    "size": 7,
                    "color": "#7154a5",
                    "symbol": [SYMBOLS[x] for x in few] if few.any() else SYMBOLS[False],
                },
                customdata=mine[["expert", "harm_low", "harm_high", "rows", "documents"]].to_numpy(
                    "float32"
                ),
                hovertemplate=f"layer {layer}, expert %{{customdata[0]:d}}<br>{measured} %{{x:.3g}}<br>{kind} "
                f"%{{y:+.3g}} [%{{customdata[1]:+.3g}}, %{{customdata[2]:+.3g}}] {unit}<br>"
                f"%{{customdata[3]:,d}} {many} in %{{customdata[4]:,d}} documents<extra></extra>",
            ),
            row=i // across + 1,
            col=i % across + 1,
        )
    plot.update_xaxes(zeroline=False, gridcolor="#efefef", nticks=4, tickfont={"size": 11})
    plot.update_yaxes(
        zeroline=True, zerolinecolor="#888888", gridcolor="#efefef", nticks=5, tickfont={"size": 11}
    )
    for i in range(len(layers)):
        if i + across >= len(layers):
            plot.update_xaxes(title=measured, row=i // across + 1, col=i % across + 1)
    plot.update_yaxes(title=f"mean {kind}{f', {unit}' if unit else ''}", col=1)
    plot.update_annotations(font={"size": 12})
    for i, layer in enumerate(layers):
        span = list(calm(points[points["layer"] == layer]))
        plot.update_yaxes(range=span, row=i // across + 1, col=i % across + 1)
    return styled(plot, 400)


def calm(points: Frame) -> tuple[float, float]:
    """The range of a panel: zero, all means, and limits up to three times the usual half-width beyond them."""
    half = ((points["harm_high"] - points["harm_low"]) / 2).quantile(0.75)
    most = 3 * float(half) if half == half else 0.0
    low, high = float(points["harm"].min()), float(points["harm"].max())
    low = min(0.0, low, max(float(points["harm_low"].min()), low - most))
    high = max(0.0, high, min(float(points["harm_high"].max()), high + most))
    room = 0.05 * (high - low) or 1e-6
    return low - room, high + room


def _short(values: Any) -> np.ndarray:
    return values.to_numpy("float32")


def _heading(layer: int, row: dict[str, Any] | None) -> str:
    if row is None or math.isnan(number(row["rho"])):
        return f"layer {layer}"
    rho = estimate(number(row["rho"]), number(row["rho_low"]), number(row["rho_high"]))
    words = f"<b>layer {layer}</b><br>\N{GREEK SMALL LETTER RHO} {rho}"
    low, high = number(row.get("ceiling_low")), number(row.get("ceiling_high"))
    known = "" if math.isnan(low + high) else f" {interval(low, high, 2, sign=False)}"
    return f"{words}<br>ceiling {fixed(number(row['ceiling']), 2)}{known}"


def number(value: Any) -> float:
    try:
        return float(value)
    except TypeError:  # pd.NA
        return math.nan
