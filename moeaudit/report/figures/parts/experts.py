"""Every expert of a layer by its rank in a metric, with the mean outcome and its limits; and the same to explore."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame

from ...plot.expert_points import calm
from ...plot.sheet import inert
from ...words.evidence import metric_name, outcome_name
from ...words.numbers import estimate, fixed, significant
from ...words.operator import OperatorWords
from .. import svg
from ..figure import styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH, HEIGHT, LEFT = 240, 190, 40


def points(cells: Frame, metrics: Frame, name: str, outcome: str) -> Frame:
    """What both faces show, a row an active expert: layer, expert, value (of the metric), rank (of it in the layer),
    harm with `_low` and `_high` (the mean of `outcome`), rows, documents."""
    values = metrics[metrics["metric"] == name][["layer", "expert", "value"]]
    joined = cells[cells["rows"] > 0].merge(values, on=["layer", "expert"])
    out = joined[["layer", "expert", "value", "rows", "documents"]].copy()
    out["harm"] = joined[outcome].astype(float)
    for end in ("low", "high"):
        known = f"{outcome}_{end}" in joined
        out[f"harm_{end}"] = joined[f"{outcome}_{end}"].astype(float) if known else math.nan
    out["rank"] = out.groupby("layer")["value"].rank(method="average").astype(float)
    return out


def squares(rows: Frame, shown: Frame, name: str, outcome: str, mean: str) -> Markup:
    """Small multiples by layer, every one; `rows` are the rank correlations, `shown` the `points` of `name`."""
    mine = rows[rows["metric"] == name].set_index("layer")
    out = []
    for layer in sorted(int(x) for x in rows["layer"].unique()):
        rho, most = (float(mine[c].get(layer, math.nan)) for c in ("rho", "ceiling"))
        said = f"rho {fixed(rho, 2, True)}, ceiling {fixed(most, 2)}"
        out.append(_square(shown[shown["layer"] == layer], layer, outcome, said))
    title = f"{mean} of every expert, with 95% limits, against its rank in {metric_name(name)[0]}"
    return Markup('<h3>{}</h3><div class="panels of4">{}</div>').format(title, Markup("").join(out))


def _square(part: Frame, layer: int, outcome: str, said: str) -> Markup:
    """One layer. Limits that one expert alone has so long do not set the axis: they end at it, with an arrow."""
    top, bottom = 24, HEIGHT - 34
    body = [svg.name(0, 14, f"layer {layer}", said)]
    body.append(svg.rect(LEFT, top, WIDTH - LEFT - 2, bottom - top, "panel"))
    if part.empty:
        return svg.document(WIDTH, HEIGHT, f"layer {layer}: no expert was active", body)
    low, high = calm(part)
    sy = svg.linear(low, high, bottom, top)
    sx = svg.linear(0.5, len(part) + 0.5, LEFT + 3, WIDTH - 5)
    body.append(svg.line(LEFT, sy(0), WIDTH - 2, sy(0), "zero"))
    marks = svg.ticks(low, high, 3)
    for tick, words in zip(marks, svg.tick_texts(marks)):
        body.append(svg.text(LEFT - 4, sy(tick) + 3, words, "tiny", "end"))
    for row in part.itertuples():
        x, kind = sx(row.rank), outcome_name(outcome).lower()
        words = (
            f"expert {row.expert}: {significant(row.value, 3)}; {kind} "
            f"{estimate(row.harm, row.harm_low, row.harm_high)}"
        )
        if math.isfinite(row.harm_low) and math.isfinite(row.harm_high):
            ends = max(row.harm_low, low), min(row.harm_high, high)
            body.append(svg.line(x, sy(ends[0]), x, sy(ends[1]), "thread"))
            if row.harm_high > high:
                body.append(svg.mark(x, top + 3, "up", "beyond", words, 2.2))
            if row.harm_low < low:
                body.append(svg.mark(x, bottom - 3, "down", "beyond", words, 2.2))
        body.append(svg.mark(x, sy(row.harm), "circle", "point", words, 2.4))
    body.append(svg.text(LEFT, bottom + 13, "lowest", "tiny"))
    body.append(svg.text(WIDTH - 2, bottom + 13, "highest value", "tiny", "end"))
    return svg.document(WIDTH, HEIGHT, f"layer {layer}: {said}", body)


def face(
    shown: dict[str, Frame], first: str, mean: str, said: OperatorWords, unit: str
) -> go.Figure:
    """`points` by metric, one shown at a time, with a menu; its limits as bars and in the tips."""
    import plotly.graph_objects as go

    plot = go.Figure()
    names = [first, *(name for name in shown if name != first)]
    for name in names:
        part = shown[name]
        tips = part[["layer", "expert", "harm_low", "harm_high", "rows", "documents"]]
        plot.add_scatter(
            x=_short(part["value"]),
            y=_short(part["harm"]),
            error_y={
                "type": "data",
                "array": _short((part["harm_high"] - part["harm"]).fillna(0.0)),
                "arrayminus": _short((part["harm"] - part["harm_low"]).fillna(0.0)),
                "thickness": 1,
                "width": 0,
                "color": "#b0b0b0",
            },
            mode="markers",
            visible=name == first,
            name=inert(metric_name(name)[0]),
            marker={
                "color": part["layer"],
                "colorscale": "Viridis",
                "size": 9,
                "colorbar": {
                    "title": {"text": "layer"},
                    "dtick": 1 if part["layer"].nunique() < 12 else None,
                },
            },
            customdata=tips.to_numpy("float32"),
            hovertemplate=f"layer %{{customdata[0]:d}}, expert %{{customdata[1]:d}}<br>{inert(metric_name(name)[0])} "
            f"%{{x:.4~g}}<br>{mean.lower()} %{{y:+.3~g}} [%{{customdata[2]:+.3~g}}, %{{customdata[3]:+.3~g}}]{unit}<br>"
            f"%{{customdata[4]:,d}} {said.many} in %{{customdata[5]:,d}} documents<extra></extra>",
        )
    buttons = [
        {
            "label": inert(metric_name(name)[0]),
            "method": "update",
            "args": [
                {"visible": [each == name for each in names]},
                {
                    "xaxis.title.text": inert(metric_name(name)[0]),
                    "yaxis.range": list(calm(shown[name])),
                },
            ],
        }
        for name in names
    ]
    place = {"x": 0, "xanchor": "left", "y": 1.15, "yanchor": "top"}
    plot.update_layout(showlegend=False, updatemenus=[{"buttons": buttons, **place}])
    plot.update_xaxes(title=inert(metric_name(first)[0]), zeroline=False)
    plot.update_yaxes(title=mean, zeroline=True, range=list(calm(shown[first])))
    return styled(plot, 460)


def _short(values: Any) -> np.ndarray:
    return values.to_numpy("float32")
