"""Figure: how single effects are distributed, heavy tails included, to explore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.frames import Frame

from ..figures import svg
from ..figures.figure import styled
from ..words.numbers import count, percent, significant
from ..words.operator import OperatorWords
from ..words.summary import Spread
from .effects import asked, summarised
from .sheet import ABOVE, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Central shares: lower and upper quantile, class of the drawing, colour, width of the bar.
PAIRS = [
    (0.001, 0.999, "s1", "#dcd6ec", 0.2),
    (0.01, 0.99, "s2", "#b9addb", 0.4),
    (0.05, 0.95, "s3", "#8f7cc0", 0.6),
    (0.25, 0.75, "s4", "#5e3f99", 0.8),
]


def tails(effects: Any) -> go.Figure:
    """How far single removals reach in either direction, layer by layer: central shares, median and extremes.

    Parameters
    ----------
    effects
        What `ablate` or an audit gives, of all removals or of a sample: document, position, layer, expert, delta_nll
        (nats), kl (nats) and flip, one row a removal.

    Returns
    -------
    A plotly figure on a symmetric logarithmic axis (linear near zero; the note says where it turns). Bars hold the
    central 50, 90, 98 and 99.8% of the layer's removals; tips say the quantiles in nats, and of the median how much of
    the layer's whole |effect| the largest 1% and 10% of removals carry.

    Raises InputError for missing columns, no rows, NaN and effects of several questions.
    """
    known = asked(effects)
    tables, behind = summarised(effects, known, spread=Spread())
    spread = tables["spread"]
    turn = significant(threshold(spread), 1)
    note = [
        f"{behind} The axis is linear near 0 and logarithmic from about {turn} nats on.",
        f"Right of 0 the {known.said.one} harms, left of it it helps.",
    ]
    few = spread[spread["rows"] < 1000]
    if len(few):
        note.append(
            f"{len(few)} of {len(spread)} layers have fewer than 1,000 {known.said.many}: there the outermost "
            "bar is the extremes, nearly."
        )
    title = f"How single {known.said.many} are distributed"
    return sheet(face(spread, known.said), title, known.doing, note, height=150 + 34 * len(spread))


def threshold(frame: Frame) -> float:
    """Where the axis turns logarithmic: the power of ten below the typical half-spread."""
    typical = float((frame[0.75] - frame[0.25]).median()) / 2
    power = 1e-6
    while power * 10 <= max(typical, 1e-6):
        power *= 10
    return power


def axis_ticks(least: svg.Number, top: svg.Number) -> list[float]:
    """Zero and the powers of ten between `least` and `top`, of both signs."""
    sizes, value = [], least * 10
    while value <= top * 1.0001:
        sizes.append(value)
        value *= 10
    return [-v for v in reversed(sizes)] + [0.0] + sizes


def face(frame: Frame, said: OperatorWords) -> go.Figure:
    """The bars of `summary.spread`; the face of the report's figure too."""
    import plotly.graph_objects as go

    turn = threshold(frame)
    squash = svg.symlog(turn)
    rows = frame.to_dict("records")
    places = [said.place(int(row["layer"])) for row in rows]
    plot = go.Figure()
    for low, high, _, colour, wide in PAIRS:
        ends = [(squash(row[low]), squash(row[high])) for row in rows]
        share = f"{100 * (high - low):.4g}%"
        plot.add_bar(
            y=places,
            base=[a for a, _ in ends],
            x=[b - a for a, b in ends],
            orientation="h",
            width=wide,
            name=f"central {share}",
            marker={"color": colour, "line": {"width": 0}},
            hoverinfo="text",
            hovertext=[
                f"{place}: {share} of {count(row['rows'])} {said.many}<br>between {significant(row[low], 3, True)} "
                f"and {significant(row[high], 3, True)} nats"
                for place, row in zip(places, rows)
            ],
            textposition="none",
        )
    plot.add_scatter(
        x=[squash(row[0.5]) for row in rows],
        y=places,
        mode="markers",
        name="median",
        marker={
            "symbol": "line-ns",
            "size": 18,
            "color": "#000000",
            "line": {"width": 2, "color": "#000000"},
        },
        hoverinfo="text",
        hovertext=[
            f"{place}: median {significant(row[0.5], 3, True)} nats<br>the largest 1% of {said.many} carry "
            f"{percent(row['top1'])} of the whole |effect|, the largest 10% {percent(row['top10'])}"
            for place, row in zip(places, rows)
        ],
    )
    ends = [(place, row[end], end) for place, row in zip(places, rows) for end in ("least", "most")]
    plot.add_scatter(
        x=[squash(value) for _, value, _ in ends],
        y=[place for place, _, _ in ends],
        mode="markers",
        name="least and most",
        marker={"symbol": "circle-open", "size": 7, "color": "#3f1f73"},
        hoverinfo="text",
        hovertext=[f"{p}: the {end}, {significant(v, 3, True)} nats" for p, v, end in ends],
    )
    reach = max(abs(frame["least"].min()), abs(frame["most"].max()))
    marks = axis_ticks(turn, reach)
    plot.update_xaxes(
        title="change of the next token's NLL, nats (symmetric logarithmic axis)",
        tickvals=[squash(tick) for tick in marks],
        ticktext=[significant(tick, 1, True) for tick in marks],
        zeroline=True,
        zerolinecolor="#888888",
        gridcolor="#e4e4e4",
    )
    plot.update_yaxes(range=[len(rows) - 0.5, -0.5], type="category")
    plot.update_layout(barmode="overlay")
    return styled(plot, 130 + 40 * len(frame)).update_layout(legend=ABOVE)
