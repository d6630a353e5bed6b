"""Figure: the effect by depth, to explore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError
from moeaudit.frames import Frame

from ..figures.figure import styled
from ..words.numbers import count, estimate, plural
from ..words.operator import ZERO, OperatorWords
from ..words.summary import Means
from .effects import asked, summarised
from .sheet import require, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

# column, title, unit, factor, signed
PANELS = [
    ("delta_nll", "Mean harm", "nats per {one}", 1.0, True),
    ("kl", "Mean disturbance", "KL, nats per {one}", 1.0, False),
    ("flip", "Top prediction changed", "% of {many}", 100.0, False),
]
COLOURS = {"delta_nll": "#c4500a", "kl": "#7154a5", "flip": "#1f6aa5"}


def depth(table: Any) -> go.Figure:
    """How the effect changes with depth: mean harm, disturbance and flips of every layer.

    Parameters
    ----------
    table
        The effects of `ablate` or an audit (document, position, layer, expert, delta_nll and kl in nats, flip; all
        removals or a sample), or a table of means with one row a layer: `layer`, and of delta_nll, kl and flip those
        that there are, each with `_low` and `_high` (null where there is no interval); `rows` and `documents` if known.

    Returns
    -------
    A plotly figure, one panel an outcome, with 95% intervals by document; tips hold mean, interval, rows and
    documents.

    Raises InputError for missing columns, no rows, a layer given twice, and NaN in the effects.
    """
    has = list(getattr(table, "columns", ()))
    if "layer" in has and "document" not in has and not hasattr(table, "frames"):
        means, note = _means(table)
        under, said = "", ZERO
    else:
        known = asked(table)
        tables, behind = summarised(
            table, known, depth=Means(("layer",), ("delta_nll", "kl", "flip"), known.limits)
        )
        means, said, under = tables["depth"], known.said, known.doing
        note = [f"{behind} Bars hold 95%, by document."]
    alone = int(means["documents"].eq(1).sum()) if "documents" in means else 0
    if alone:
        note.append(f"{plural(alone, 'layer')} of one document, without limits.")
    return sheet(face(means, said), "How the effect changes with depth", under, note, height=400)


def _means(table: Frame) -> tuple[Frame, list[str]]:
    advice = (
        "Pass effects (ma.ablate), or means by layer with limits, such as delta_nll, delta_nll_low and delta_nll_high; "
        "a table of contrasts is drawn by ma.plot.contrasts."
    )
    require(table, ["layer"], "The table of means", advice)
    there = [name for name, *_ in PANELS if name in table]
    if not there:
        require(table, ["delta_nll"], "The table of means", advice)
    require(
        table,
        [f"{n}{end}" for n in there for end in ("_low", "_high")],
        "The table of means",
        advice,
    )
    twice = table["layer"][table["layer"].duplicated()]
    if len(twice):
        raise InputError(
            f"The table of means gives layer {twice.iloc[0]} more than once, and one row a layer was expected. "
            "Draw each group of rows by itself."
        )
    numbers = [f"{n}{end}" for n in there for end in ("", "_low", "_high")]
    means = table.astype(dict.fromkeys(numbers, "Float64")).astype(
        dict.fromkeys(numbers, "float64")
    )
    absent = int(means[there].isna().any(axis=1).sum())
    note = [f"{plural(len(means), 'layer')}; bars are the table's own limits."]
    if absent:
        note.append(f"{plural(absent, 'layer')} without a mean of some outcome, left open.")
    return means.sort_values("layer"), note


def face(frame: Frame, said: OperatorWords) -> go.Figure:
    """The panels of `summary.depth`, those of the outcomes that are there; the face of the report's figure too."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    panels = [panel for panel in PANELS if panel[0] in frame]
    plot = make_subplots(
        rows=1,
        cols=len(panels),
        subplot_titles=[panel[1] for panel in panels],
        horizontal_spacing=0.1,
    )
    for i, (column, title, unit, factor, signed) in enumerate(panels, start=1):
        mean, low, high = (factor * frame[f"{column}{end}"] for end in ("", "_low", "_high"))
        unit = unit.format(one=said.one, many=said.many)
        plot.add_trace(
            go.Scatter(
                x=frame["layer"].to_numpy("int64"),
                y=mean.to_numpy("float64"),
                error_y={
                    "type": "data",
                    "array": (high - mean).to_numpy("float64"),
                    "arrayminus": (mean - low).to_numpy("float64"),
                    "thickness": 1.5,
                    "width": 4,
                },
                mode="lines+markers",
                name=title,
                showlegend=False,
                marker={"size": 7},
                line={"color": COLOURS[column], "width": 1},
                hovertext=[
                    f"{said.place(int(row['layer']))}<br>{title.lower()} "
                    f"{_estimate(row, column, factor, signed)}{behind(row, said)}"
                    for row in frame.to_dict("records")
                ],
                hoverinfo="text",
            ),
            row=1,
            col=i,
        )
        plot.update_yaxes(title=unit, row=1, col=i)
    layers = [int(layer) for layer in frame["layer"]]
    plot.update_xaxes(title="layer", zeroline=False, tickvals=layers if len(layers) < 13 else None)
    plot.update_yaxes(
        zeroline=True, zerolinecolor="#888888", gridcolor="#e4e4e4", rangemode="tozero"
    )
    return styled(plot, 380)


def _estimate(row: Any, column: str, factor: float, signed: bool) -> str:
    value, low, high = (factor * row[f"{column}{end}"] for end in ("", "_low", "_high"))
    return estimate(value, low, high, signed) + ("%" if factor == 100 else " nats")


def behind(row: Any, said: OperatorWords) -> str:
    """`<br>120 removals in 8 documents`, where the row says so."""
    if "rows" not in row:
        return ""
    text = f"<br>{count(row['rows'])} {said.many}"
    return f"{text} in {plural(int(row['documents']), 'document')}" if "documents" in row else text
