"""Figure: is confidence earned? Accuracy beside confidence, stratum by stratum, to explore."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.errors import InputError
from moeaudit.frames import Frame

from ..figures.figure import styled
from ..figures.reliability import MOST_PANELS, PER_ROW
from ..words.numbers import count, estimate, fixed, percent, plural
from .sheet import inert, require, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

SIDE = 250
# of a bin: (name, colour, symbol)
KINDS = [
    ("over-confident", "#c4500a", "circle"),
    ("under-confident", "#1f6aa5", "diamond"),
    ("sign open", "#8a8a8a", "circle-open"),
]


def reliability(predictions: Any, **settings: Any) -> go.Figure:
    """Accuracy against mean confidence in bins of equal mass: on the diagonal confidence is what it claims.

    Parameters
    ----------
    predictions
        `ma.Predictions`, a frame of them (confidence in [0, 1], correct; group, document and weight if there), or the
        table that `ma.reliability` returns.
    settings
        Of `ma.reliability` (by, bins, binning, draws, seed, level), for predictions.

    Returns
    -------
    A plotly figure: all predictions first, then the groups with the largest gaps, at most 12 panels; the note counts
    the rest. Bars hold the limits of a bin's gap, by document; the grey band all bins of a calibrated model at once.

    Raises InputError for missing columns and no rows, and settings given with a table that is already made.
    """
    # imported when it is drawn: the page of an audit needs no calibration
    from moeaudit.calibration.predictions.predictions import Predictions
    from moeaudit.calibration.scores.reliability import COLUMNS
    from moeaudit.calibration.scores.reliability import reliability as measure

    made = "band_low" in getattr(predictions, "columns", ())
    if made:
        require(predictions, COLUMNS, "The reliability table", "Pass what ma.reliability returns.")
        if settings:
            raise InputError(
                f"The table is made already, so {', '.join(settings)} can change nothing. Pass predictions, "
                "or no settings."
            )
        bins = predictions
    else:
        advice = "Pass ma.Predictions, or a frame with confidence and correct."
        if not isinstance(predictions, Predictions):
            require(predictions, ["confidence", "correct"], "The table of predictions", advice)
        bins = measure(predictions, **settings)
    level = f"{100 * float(settings.get('level', 0.95)):g}% limits" if not made else "limits"
    numbers = [c for c in COLUMNS if c not in ("stratum", "whole", "reason")]
    plain: Frame = bins.astype(dict.fromkeys(numbers, "Float64")).astype(
        dict.fromkeys(numbers, "float64")
    )
    order = _order(plain)
    shown = order[:MOST_PANELS]
    bare = int(plain["gap_low"].isna().sum())
    whole = plain[plain["whole"].astype(bool)]
    note = [
        f"{count(whole['n'].sum())} predictions; larger points hold more of the weight. Bars: {level} of the bin's "
        "gap, by document. Grey: all bins of a calibrated model with independent outcomes at once.",
        f"{plural(bare, 'bin')} without limits (the tip says why)." if bare else "",
        f"{plural(len(order) - len(shown), 'group')} with smaller gaps left out."
        if len(order) > len(shown)
        else "",
    ]
    down = math.ceil(len(shown) / PER_ROW)
    under = "Below the diagonal a model claims more than it earns, above it less."
    return sheet(
        face(plain, shown), "Is confidence earned?", under, note, height=120 + (SIDE + 70) * down
    )


def _order(bins: Frame) -> list[tuple[bool, str]]:
    """The whole, then groups by the size of their gap; a panel is (whole, stratum)."""
    size = {}
    for (whole, name), part in bins.groupby(["whole", "stratum"], sort=False):
        size[bool(whole), str(name)] = abs(float((part["share"] * part["gap"]).sum()))
    return sorted(size, key=lambda key: (not key[0], -size[key], key[1]))


def face(bins: Frame, shown: list[tuple[bool, str]]) -> go.Figure:
    """A panel each of `shown`: the band, the diagonal, and a point a bin with its limits."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    across = min(PER_ROW, len(shown))
    down = math.ceil(len(shown) / across)
    titles = ["all predictions" if whole else inert(name) for whole, name in shown]
    plot = make_subplots(
        rows=down, cols=across, subplot_titles=titles, horizontal_spacing=0.2 / across,
        vertical_spacing=0.3 / down,
    )  # fmt: skip
    named: set[str] = set()
    for i, (whole, name) in enumerate(shown):
        place: Any = {"row": i // across + 1, "col": i % across + 1}
        mine = bins[(bins["whole"] == whole) & (bins["stratum"].astype(str) == name)]
        mine = mine[mine["accuracy"].notna()].sort_values("confidence")
        band = mine[mine["band_low"].notna()]
        if len(band) > 1:
            x = [*band["confidence"], *band["confidence"][::-1]]
            y = [*band["band_high"], *band["band_low"][::-1]]
            plot.add_trace(
                go.Scatter(
                    x=np.array(x, "float32"), y=np.array(y, "float32"), fill="toself", mode="lines",
                    fillcolor="rgba(120,120,120,0.2)", line={"width": 0}, hoverinfo="skip",
                    name="calibrated, all bins", legendgroup="band", showlegend="band" not in named,
                ),
                **place,
            )  # fmt: skip
            named.add("band")
        plot.add_trace(
            go.Scatter(
                x=[0, 1], y=[0, 1], mode="lines", line={"color": "#888888", "width": 1},
                hoverinfo="skip", name="earned exactly", legendgroup="line", showlegend=i == 0,
            ),
            **place,
        )  # fmt: skip
        kinds = np.array([_kind(row) for row in mine.to_dict("records")])
        for k, (kind, colour, symbol) in enumerate(KINDS):
            part = mine[kinds == k] if len(mine) else mine
            if len(part):
                trace = _points(part, kind, colour, symbol, titles[i])
                plot.add_trace(trace.update(showlegend=kind not in named), **place)
                named.add(kind)
        if i + across >= len(shown):
            plot.update_xaxes(title="confidence", **place)
    plot.update_xaxes(range=[0, 1], gridcolor="#ececec", zeroline=False, dtick=0.25)
    plot.update_yaxes(range=[0, 1], gridcolor="#ececec", zeroline=False, dtick=0.25)
    plot.update_yaxes(title="accuracy", col=1)
    return styled(plot, 400)


def _points(part: Frame, kind: str, colour: str, symbol: str, title: str) -> Any:
    import plotly.graph_objects as go

    sure = {"type": "data", "thickness": 1.2, "width": 0, "color": colour}
    return go.Scatter(
        x=part["confidence"].to_numpy("float32"),
        y=part["accuracy"].to_numpy("float32"),
        # accuracy = confidence - gap, so the limits change sides
        error_y={
            **sure,
            "array": (part["gap"] - part["gap_low"]).to_numpy("float32"),
            "arrayminus": (part["gap_high"] - part["gap"]).to_numpy("float32"),
        },
        mode="markers",
        name=kind,
        legendgroup=kind,
        marker={
            "symbol": symbol,
            "color": colour,
            "size": (5 + 14 * np.sqrt(part["share"])).to_numpy("float32"),
        },
        hoverinfo="text",
        hovertext=[_tip(row, title) for row in part.to_dict("records")],
    )


def _kind(row: dict[Any, Any]) -> int:
    if np.isnan(row["gap_low"]) or row["gap_low"] <= 0 <= row["gap_high"]:
        return 2
    return 0 if row["gap"] > 0 else 1


def _tip(row: dict[Any, Any], title: str) -> str:
    text = (
        f"{title}<br>confidence {fixed(row['confidence'], 3)} ({fixed(row['start'], 3)} to {fixed(row['end'], 3)})"
        f"<br>accuracy {fixed(row['accuracy'], 3)}<br>gap {estimate(row['gap'], row['gap_low'], row['gap_high'])}"
        f"<br>{count(row['n'])} predictions of {plural(int(row['documents']), 'document')}, {percent(row['share'])}"
        " of the weight"
    )
    return f"{text}<br>{inert(row['reason'])}" if isinstance(row["reason"], str) else text
