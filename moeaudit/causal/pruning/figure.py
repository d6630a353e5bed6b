"""The pruning figure: cost against the share of experts that stays, random draws as a band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError

from .tables import RANDOM

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .result import PruneCurve

# Okabe and Ito's colours, which common forms of colour blindness keep apart; lines differ by marker
# and dash as well.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
_DASHES = ("solid", "dash", "dot")
_OUTCOMES = {
    "d_nll": ("loss added, nats a token", "low", "high"),
    "kl": ("KL(clean || pruned), nats a token", "kl_low", "kl_high"),
    "nll": ("loss, nats a token", "nll_low", "nll_high"),
}


def curve_figure(curve: PruneCurve, outcome: str) -> go.Figure:
    """A panel for each scope (row) and depth (column). Raises InputError for an unknown outcome."""
    from plotly.subplots import make_subplots

    if outcome not in _OUTCOMES:
        raise InputError(f"outcome = {outcome!r}: use one of {', '.join(_OUTCOMES)}.")
    table: Any = curve.table
    scopes, depths = list(table["scope"].unique()), list(table["depth"].unique())
    names = [name for name in table["criterion"].unique() if name != RANDOM]
    whole = {"layer": "same share in each layer", "global": "ranked over all layers"}
    titles = [f"{_depth(depth)}, {whole[scope]}" for scope in scopes for depth in depths]
    figure = make_subplots(
        rows=len(scopes),
        cols=len(depths),
        subplot_titles=titles,
        shared_xaxes=True,
        vertical_spacing=0.12,
        horizontal_spacing=0.06,
    )
    for r, scope in enumerate(scopes, 1):
        for c, depth in enumerate(depths, 1):
            cell = table[(table["scope"] == scope) & (table["depth"] == depth)]
            for trace in _panel(cell, names, outcome, first=r == c == 1, level=curve.level):
                figure.add_trace(trace, row=r, col=c)
    shares = sorted(table["keep"].unique())
    figure.update_xaxes(
        tickvals=shares,
        tickformat=".4~g",
        autorange="reversed",
        gridcolor="#e4e4e4",
        linecolor="#888",
    )
    figure.update_xaxes(title_text="share of experts that stays", row=len(scopes))
    figure.update_yaxes(gridcolor="#e4e4e4", zerolinecolor="#888")
    figure.update_yaxes(title_text=_OUTCOMES[outcome][0], col=1)
    figure.update_layout(
        title={"text": f"Pruning experts of {curve.model}", "x": 0.01},
        template="none",
        height=150 + 330 * len(scopes),
        width=max(640, 120 + 360 * len(depths)),
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 80, "r": 20, "t": 90, "b": 60},
        legend={"orientation": "v"},
    )
    return figure


def _depth(depth: str) -> str:
    return "All MoE layers" if depth == "all" else f"{depth.capitalize()} third"


def _panel(cell: Any, names: list[str], outcome: str, *, first: bool, level: float) -> list[Any]:
    import plotly.graph_objects as go

    _, low, high = _OUTCOMES[outcome]
    traces: list[Any] = []
    random = cell[cell["criterion"] == RANDOM].groupby("keep")[outcome]
    if len(random):
        tail = (1 - level) / 2
        bottom, middle, top = random.quantile(tail), random.mean(), random.quantile(1 - tail)
        x = middle.index.tolist()
        traces.append(
            go.Scatter(
                x=x + x[::-1],
                y=top.tolist() + bottom.tolist()[::-1],
                fill="toself",
                fillcolor="rgba(120,120,120,0.22)",
                line={"width": 0},
                hoverinfo="skip",
                name=f"random, {level:.0%} of draws",
                legendgroup="band",
                showlegend=first,
            )
        )
        traces.append(
            go.Scatter(
                x=x,
                y=middle.tolist(),
                mode="lines",
                line={"color": "#777", "dash": "dot"},
                name="random, mean",
                legendgroup="random",
                showlegend=first,
            )
        )
    for i, name in enumerate(names):
        mine = cell[cell["criterion"] == name].sort_values("keep")
        y = mine[outcome]
        traces.append(
            go.Scatter(
                x=mine["keep"], y=y, mode="lines+markers", name=name.replace("_", " "),
                legendgroup=name, showlegend=first,
                line={
                    "color": _COLOURS[i % len(_COLOURS)],
                    "dash": _DASHES[i // len(_COLOURS) % len(_DASHES)],
                },
                marker={"symbol": _MARKERS[i % len(_MARKERS)], "size": 8},
                error_y={
                    "type": "data", "array": mine[high] - y, "arrayminus": y - mine[low],
                    "thickness": 1, "width": 3,
                },
            )
        )  # fmt: skip
    return traces
