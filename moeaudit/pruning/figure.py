"""The pruning figure: cost against the share of experts that stays, random draws as a band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import one_of

from .tables import RANDOM

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's colours, which common forms of colour blindness keep apart; criteria differ by
# marker as well.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
_MARKERS += ("circle-open", "square-open", "diamond-open", "triangle-down")
_OUTCOMES = {
    "d_nll": ("loss added, nats a token", "low", "high"),
    "kl": ("KL(clean || pruned), nats a token", "kl_low", "kl_high"),
    "nll": ("loss, nats a token", "nll_low", "nll_high"),
}


def curve_figure(table: Any, outcome: str, *, model: str, level: float) -> go.Figure:
    """A panel for each scope (row) and depth (column). Raises InputError for an unknown outcome."""
    from plotly.subplots import make_subplots

    one_of(outcome, _OUTCOMES, "outcome")
    scopes, depths = list(table["scope"].unique()), list(table["depth"].unique())
    shares = sorted(table["keep"].unique().tolist(), reverse=True)
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
            for trace in _panel(cell, names, outcome, shares, first=r == c == 1, level=level):
                figure.add_trace(trace, row=r, col=c)
    figure.update_xaxes(
        tickvals=list(range(len(shares))),
        ticktext=[f"{share:g}" for share in shares],
        range=[-0.55, len(shares) - 0.45],
        showticklabels=True,
        showgrid=False,
        zeroline=False,
        linecolor="#888",
    )
    figure.update_xaxes(title_text="share of experts that stays", row=len(scopes))
    figure.update_yaxes(gridcolor="#e4e4e4", zerolinecolor="#888")
    figure.update_yaxes(title_text=_OUTCOMES[outcome][0], col=1)
    figure.update_layout(
        title={"text": f"Pruning experts of {model}", "x": 0.01},
        template="none",
        height=200 + 330 * len(scopes),
        width=max(640, 120 + 360 * len(depths)),
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 80, "r": 20, "t": 90, "b": 60},
        legend={"orientation": "v"},
    )
    return figure


def _depth(depth: str) -> str:
    return "All MoE layers" if depth == "all" else f"{depth.capitalize()} third"


def _panel(
    cell: Any, names: list[str], outcome: str, shares: list[float], *, first: bool, level: float
) -> list[Any]:
    """Traces of one panel; x is the place of the share, criteria stand side by side at it."""
    import plotly.graph_objects as go

    _, low, high = _OUTCOMES[outcome]
    traces: list[Any] = []
    random = cell[cell["criterion"] == RANDOM].groupby("keep")[outcome]
    if len(random):
        tail = (1 - level) / 2
        bottom, middle, top = random.quantile(tail), random.mean(), random.quantile(1 - tail)
        x: list[float | None] = []
        box: list[float | None] = []
        line: list[float | None] = []
        for at, share in enumerate(shares):
            x += [at - 0.45, at + 0.45, at + 0.45, at - 0.45, None]
            box += [bottom[share], bottom[share], top[share], top[share], None]
            line += [middle[share], middle[share], None, None, None]
        shared = {"x": x, "mode": "lines", "hoverinfo": "skip", "showlegend": first}
        band = {"fill": "toself", "fillcolor": "rgba(120,120,120,0.22)", "line": {"width": 0}}
        name = f"random, {level:.0%} of draws"
        traces.append(go.Scatter(y=box, name=name, legendgroup="band", **shared, **band))
        mean = {"line": {"color": "#666", "dash": "dot"}, "legendgroup": "random"}
        said = {"hovertemplate": "random choices, mean: %{y:+.4g}<extra></extra>"}
        traces.append(go.Scatter(y=line, name="random, mean", **shared, **mean, **said))
    for i, name in enumerate(names):
        mine = cell[cell["criterion"] == name].set_index("keep").loc[shares]
        y, colour = mine[outcome], _COLOURS[i % len(_COLOURS)]
        aside = 0.8 * ((i + 0.5) / len(names) - 0.5)
        bars = {"array": mine[high] - y, "arrayminus": y - mine[low], "thickness": 1, "width": 3}
        traces.append(
            go.Scatter(
                x=[at + aside for at in range(len(shares))],
                y=y.tolist(),
                mode="markers",
                name=name.replace("_", " "),
                legendgroup=name,
                showlegend=first,
                marker={"symbol": _MARKERS[i % len(_MARKERS)], "size": 9, "color": colour},
                error_y={"type": "data", **bars},
                customdata=[
                    [f"{share:.4g}", a, b, gone]
                    for share, a, b, gone in zip(shares, mine[low], mine[high], mine["dropped"])
                ],
                hovertemplate="%{fullData.name}: %{y:+.4g} [%{customdata[1]:+.4g}, %{customdata[2]:+.4g}] nats a token"
                "<br>share %{customdata[0]} stays, %{customdata[3]} experts dropped<extra></extra>",
            )
        )
    return traces
