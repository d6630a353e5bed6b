"""A comparison as a plotly figure, for a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...figures import palette
from ...figures.figure import styled
from ...pages.tables import rows_of
from ...words.evidence import outcome_name
from ..words import difference, headline, number, unit, verdict_words
from .maps import SIGNED

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..result import Compared

COLOURS = ["#1f6aa5", "#c4500a", "#1d6b4f", "#6b6b6b", "#7154a5"]


def plotted(compared: Compared, outcome: str) -> go.Figure:
    """Maps of the first pair, or layers by depth where experts are not compared."""
    return _depth(compared, outcome) if compared.cells.empty else _maps(compared, outcome)


def _maps(compared: Compared, outcome: str) -> go.Figure:
    from plotly.subplots import make_subplots

    cells = compared.cells
    pair = next(pair for pair in compared.pairs if pair.cells)
    rows = rows_of(cells[(cells["outcome"] == outcome) & (cells["b"] == pair.b.letter)])
    layers, experts = pair.layers, 1 + max(e for _, e in pair.cells)
    columns = ("mean_a", "mean_b", "difference")
    grids = {name: np.full((len(layers), experts), np.nan) for name in columns}
    tips = np.full((len(layers), experts), "", dtype=object)
    for row in rows:
        at = layers.index(int(row["layer"])), int(row["expert"])
        for name, grid in grids.items():
            grid[at] = number(row[name])
        said = verdict_words(row["verdict"], row["a"], row["b"])
        tips[at] = f"{row['a']} less {row['b']}: {difference(row)} {unit(outcome)}<br>{said}"
    a, b = pair.a, pair.b
    heads = [f"{a.letter}: {a.name}", f"{b.letter}: {b.name}", f"{a.letter} less {b.letter}"]
    shared: Any = "all"  # zooming one map zooms all
    figure = make_subplots(
        1, 3, shared_xaxes=shared, shared_yaxes=shared, subplot_titles=[_escaped(h) for h in heads]
    )
    ends = [_top(np.stack([grids["mean_a"], grids["mean_b"]]))] * 2 + [_top(grids["difference"])]
    for i, (name, top) in enumerate(zip(columns, ends), start=1):
        signed = name == "difference" or outcome in SIGNED
        figure.add_heatmap(
            z=np.round(grids[name], 6).tolist(),
            x=list(range(experts)),
            y=[str(layer) for layer in layers],
            text=tips.tolist(),
            hovertemplate="layer %{y}, expert %{x}: %{z:.3g}<br>%{text}<extra></extra>",
            colorscale=palette.DIVERGING if signed else palette.SEQUENTIAL,
            zmin=-top if signed else 0,
            zmax=top,
            coloraxis=None,
            colorbar={"len": 0.9, "thickness": 12, "x": 1.0 if i == 3 else 1.08, "title": {"text": unit(outcome)}},
            showscale=i != 1,
            row=1,
            col=i,
        )  # fmt: skip
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_xaxes(title_text="expert")
    figure.update_yaxes(title_text="layer", col=1)
    return _titled(figure, compared, outcome, 240 + 22 * len(layers))


def _depth(compared: Compared, outcome: str) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    table = compared.profile
    for i, side in enumerate(compared.sides):
        rows = rows_of(table[(table["outcome"] == outcome) & (table["run"] == side.letter)])
        mean, low, high = ([number(r[k]) for r in rows] for k in ("mean", "low", "high"))
        figure.add_scatter(
            x=[number(r["depth"]) for r in rows],
            y=mean,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [h - m for h, m in zip(high, mean)],
                "arrayminus": [m - lower for lower, m in zip(low, mean)],
            },
            mode="markers+lines",
            marker={"symbol": i, "size": 9},
            line={"color": COLOURS[i % len(COLOURS)]},
            text=[f"layer {r['layer']}" for r in rows],
            name=_escaped(f"{side.letter}: {side.name}"),
        )
    figure.update_xaxes(title_text="depth of the layer (0: first, 1: last)", range=[0, 1])
    figure.update_yaxes(title_text=f"mean {outcome_name(outcome).lower()} {unit(outcome)}".strip())
    return _titled(figure, compared, outcome, 420)


def _titled(figure: go.Figure, compared: Compared, outcome: str, height: int) -> go.Figure:
    styled(figure, height)
    figure.update_layout(
        title={"text": f"{outcome_name(outcome)}. {_escaped(headline(compared))}.", "font": {"size": 13}},
        margin={"t": 80},
    )  # fmt: skip
    return figure


def _top(values: np.ndarray) -> float:
    return float(np.nanquantile(np.abs(values), 0.98)) if np.isfinite(values).any() else 1.0


def _escaped(words: Any) -> str:
    """Plotly reads some HTML in text: names of models and folders are not to be any."""
    return str(words).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
