"""The face of contrasts: a point each metric, layer and outcome, its verdict by sign, with limits and bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.frames import Column as Series
from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import INCONCLUSIVE, NOT_ESTIMABLE

from ..figures.figure import styled
from ..figures.palette import VERDICTS
from ..words.evidence import OUTCOMES, metric_name, outcome_name
from ..words.numbers import count, estimate, plural, probability
from .sheet import ABOVE, inert

if TYPE_CHECKING:
    import plotly.graph_objects as go

# A verdict's shape in plotly, and as a letter for the key: those of the drawing, hollow where it is.
SIGNS = {
    "up": ("triangle-up", "\N{BLACK UP-POINTING TRIANGLE}"),
    "down": ("triangle-down", "\N{BLACK DOWN-POINTING TRIANGLE}"),
    "v-size": ("diamond-open", "\N{WHITE DIAMOND}"),
    "v-below": ("square-open", "\N{WHITE SQUARE}"),
    "v-eq": ("square", "\N{BLACK SQUARE}"),
    "v-open": ("circle-open", "\N{WHITE CIRCLE}"),
    "v-few": ("circle-dot", "\N{FISHEYE}"),
    "v-none": ("x-thin-open", "\N{MULTIPLICATION SIGN}"),
}
CONTROL = ("diamond", "\N{BLACK DIAMOND}", "#6f6f6f")
WIDE, HIGH = 0.42, 250
MOST_LEVEL = 6  # metrics whose names stand level under the plot


def order_of(frame: Frame) -> tuple[list[str], list[str]]:
    """Metrics before controls, and outcomes in the order of the page."""
    first = frame["role"].map({"metric": 0, "control": 1})
    names = list(dict.fromkeys(frame.loc[first.sort_values(kind="stable").index, "metric"]))
    tested = list(dict.fromkeys(frame["outcome"]))
    return names, sorted(tested, key=lambda o: [*OUTCOMES, *tested].index(o))


def calm(part: Frame) -> tuple[float, float]:
    """The axis of some contrasts: zero and all limits, but that one wild interval does not flatten all others.

    Limits count up to five times the upper quartile of the points' own reach and of the limits'; what goes
    further is drawn as cut (`reaches`).
    """
    values = part[["low", "high", "d_z"]].to_numpy("float64")
    known = np.concatenate([values[np.isfinite(values)], [0.0, 0.05, -0.05]])
    sizes = np.nanmax(np.abs(values), axis=1, initial=0.05) if len(values) else np.array([0.05])
    middle = np.abs(values[:, 2][np.isfinite(values[:, 2])]) if len(values) else np.array([])
    reach = max(
        3 * float(np.quantile(sizes, 0.75)),
        1.1 * float(np.quantile(middle, 0.75)) if middle.size else 0.0,
    )
    low, high = max(float(known.min()), -reach), min(float(known.max()), reach)
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def reaches(part: Frame) -> Series:
    """Which points or limits go beyond `calm`."""
    low, high = calm(part)
    return (part["low"] < low) | (part["high"] > high) | (part["d_z"] < low) | (part["d_z"] > high)


def beyond(part: Frame) -> int:
    """How many of an outcome's points or limits go beyond its axis."""
    return int(reaches(part).sum())


def face(frame: Frame, names: list[str], outcomes: list[str]) -> go.Figure:
    """A point each (metric, layer, outcome), with the columns of `evidence.Evidence.contrasts`; the face of the
    report's figures too. One trace a metric and outcome."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [outcome_name(o) for o in outcomes]
    plot = make_subplots(
        rows=len(outcomes), cols=1, subplot_titles=titles, vertical_spacing=0.22 / len(outcomes)
    )
    plot.update_annotations(x=0, xanchor="left")  # the legend stands at the right
    layers = sorted({int(layer) for layer in frame["layer"]})
    step = 2 * WIDE / max(1, len(layers))
    for row, outcome in enumerate(outcomes, start=1):
        part = frame[frame["outcome"] == outcome]
        for i, name in enumerate(names):
            mine = part[part["metric"] == name]
            at = i - WIDE + step * (0.5 + mine["layer"].map(layers.index).to_numpy("float64"))
            looks = [_look(r) for r in mine.to_dict("records")]
            plot.add_trace(
                go.Scatter(
                    x=np.round(at, 4),
                    y=mine["d_z"].fillna(0.0).round(5).to_numpy(),
                    error_y={
                        "type": "data",
                        "array": (mine["high"] - mine["d_z"]).round(5).to_numpy(),
                        "arrayminus": (mine["d_z"] - mine["low"]).round(5).to_numpy(),
                        "thickness": 1.2,
                        "width": 0,
                        "color": "#8a8a8a",
                    },
                    mode="markers",
                    name=inert(metric_name(name)[0]),
                    showlegend=False,
                    marker={
                        "symbol": [symbol for symbol, _ in looks],
                        "color": [colour for _, colour in looks],
                        "size": 8,
                    },
                    hoverinfo="text",
                    hovertext=[_tip(r) for r in mine.to_dict("records")],
                ),
                row=row,
                col=1,
            )
        _boxes(plot, part, names, layers, row)
        plot.update_yaxes(title="d<sub>z</sub>", range=list(calm(part)), row=row, col=1)
    controls = set(frame.loc[frame["role"] == "control", "metric"])
    if 0 < len(controls) < len(names):
        plot.add_vline(len(names) - len(controls) - 0.5, line={"color": "#888888", "width": 1})
    plot.update_xaxes(
        tickvals=list(range(len(names))),
        ticktext=[_label(n, n in controls, aslant=len(names) > MOST_LEVEL) for n in names],
        range=[-0.5, len(names) - 0.5],
        showgrid=False,
        zeroline=False,
        tickangle=-30 if len(names) > MOST_LEVEL else 0,
        showticklabels=False,
    )
    plot.update_xaxes(showticklabels=True, row=len(outcomes), col=1)
    plot.update_yaxes(zeroline=True, zerolinecolor="#888888", gridcolor="#ececec")
    plot.add_annotation(
        text=_key(frame),
        xref="paper",
        yref="paper",
        x=0,
        y=1,
        xanchor="left",
        yanchor="bottom",
        yshift=24,
        showarrow=False,
        align="left",
        name="key",
    )
    drawn = styled(plot, 160 + HIGH * len(outcomes))
    return drawn.update_layout(legend=ABOVE, margin_b=60 + (64 if len(names) > MOST_LEVEL else 16))


def _label(name: str, control: bool, *, aslant: bool) -> str:
    words = inert(metric_name(name)[0])
    return f"{words}<br>(control)" if control and not aslant else words


def _look(row: dict[Any, Any]) -> tuple[str, str]:
    if not np.isfinite(row["d_z"]):
        return SIGNS["v-none"][0], "#8a8a8a"
    if row["role"] == "control":
        return CONTROL[0], CONTROL[2]
    shape, css, colour = VERDICTS.get(row["verdict"], VERDICTS[INCONCLUSIVE])
    return SIGNS.get(css, SIGNS.get(shape, SIGNS["v-open"]))[0], colour


def _key(frame: Frame) -> str:
    """The signs of the verdicts that occur, and of controls."""
    said = []
    for verdict, (shape, css, colour) in VERDICTS.items():
        metric = (frame["verdict"] == verdict) & (frame["role"] == "metric")
        if metric.any() or (verdict == NOT_ESTIMABLE and frame["d_z"].isna().any()):
            sign = SIGNS.get(css) or SIGNS[shape]
            said.append(f'<span style="color:{colour}">{sign[1]}</span> {verdict}')
    if (frame["role"] == "control").any():
        said.append(f'<span style="color:{CONTROL[2]}">{CONTROL[1]}</span> control')
    return "   ".join(said)


def _tip(row: dict[Any, Any]) -> str:
    head = f"{inert(metric_name(row['metric'])[0])}, layer {row['layer']}"
    if not np.isfinite(row["d_z"]):
        return f"{head}<br>{inert(str(row.get('reason') or NOT_ESTIMABLE))}"
    verdict = row["verdict"] or row["role"] if row["role"] == "metric" else "control"
    return (
        f"{head}<br>d_z {estimate(row['d_z'], row['low'], row['high'])}<br>{verdict}, adjusted p "
        f"{probability(row['p_adjusted'])}<br>{count(row['n'])} tokens of "
        f"{plural(int(row['documents' if 'documents' in row else 'n_documents']), 'document')}"
    )


def _boxes(plot: go.Figure, part: Frame, names: list[str], layers: list[int], row: int) -> None:
    """The zone of no interest and the band of luck of every point, each as one path."""
    step = 2 * WIDE / max(1, len(layers))
    kinds = [
        ("zone of no interest", "sesoi", {"fillcolor": "rgba(120,120,120,0.18)", "line": {"width": 0}}),
        ("95% of luck over experts", "null_high",
         {"fillcolor": "rgba(0,0,0,0)", "line": {"width": 1, "color": "#9a8a6a", "dash": "dot"}}),
    ]  # fmt: skip
    for label, column, look in kinds:
        if column not in part or (column == "null_high" and "null_low" not in part):
            continue
        boxes = []
        for r in part.to_dict("records"):
            top = r[column]
            low = -top if column == "sesoi" else r["null_low"]
            if np.isfinite(top) and np.isfinite(low):
                x = names.index(r["metric"]) - WIDE + step * layers.index(int(r["layer"]))
                a, b = f"{x:.3f}", f"{x + step:.3f}"
                boxes.append(f"M{a},{low:.4f}L{b},{low:.4f}L{b},{top:.4f}L{a},{top:.4f}Z")
        if boxes:
            plot.add_shape(
                type="path", path="".join(boxes), layer="below", name=label, legendgroup=label,
                showlegend=row == 1, row=row, col=1, **look,
            )  # fmt: skip
