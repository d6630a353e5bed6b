"""Figure: which experts each token of a document goes through, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.errors import InputError
from moeaudit.frames import Frame

from ..figures import palette
from ..figures.figure import styled
from ..words.numbers import count, plural
from .sheet import inert, require, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

TOKENS = 48
MOST_CHARACTERS = 110_000  # of all tips together
WRITTEN = 40  # tokens: up to here the expert's number stands in its cell


def routes(
    trace: Any, document: int | np.integer, *, start: int = 0, tokens: int = TOKENS
) -> go.Figure:
    """The route of a document's tokens: the experts of every layer, with their gate weights.

    Parameters
    ----------
    trace
        What `ma.capture(model, docs)` returns: `trace.tokens` (document, position, text) and `trace.routing` (document,
        position, layer, rank, expert, weight).
    document
        The document's number, as in the tables.
    start, tokens
        From which position on, and how many tokens at most (fewer where that keeps the figure light; the note says).

    Returns
    -------
    A plotly figure, tokens across, layers down. A cell is coloured by the gate weight of its first expert (rank 0),
    whose number stands in it; the tip lists all active experts. A weight is what the router gives, not what the expert
    does: ma.ablate measures that.

    Raises InputError for anything but a trace, a document or start that is not there, and no tokens.
    """
    advice = "Pass the trace that ma.capture(model, docs) returns."
    if not (hasattr(trace, "tokens") and hasattr(trace, "routing")):
        raise InputError(f"A trace was expected, and this is a {type(trace).__name__}. {advice}")
    require(trace.tokens, ["document", "position", "text"], "The tokens table of the trace", advice)
    needs = ["document", "position", "layer", "rank", "expert", "weight"]
    require(trace.routing, needs, "The routing table of the trace", advice)
    if tokens < 1 or start < 0:
        raise InputError(
            f"start={start} and tokens={tokens}: a start from 0 on and at least 1 token are needed."
        )
    said = trace.tokens[trace.tokens["document"] == document].sort_values("position")
    if said.empty:
        known = sorted(set(trace.tokens["document"].tolist()))
        some = ", ".join(map(str, known[:8])) + (" and more" if len(known) > 8 else "")
        raise InputError(
            f"The trace holds no document {document}; it holds {plural(len(known), 'document')}: {some}. "
            "The numbers are those of trace.tokens."
        )
    here = said[said["position"] >= start]
    if here.empty:
        raise InputError(
            f"Document {document} ends at position {said['position'].max()}, and start={start} lies behind it. "
            "Choose an earlier start."
        )
    layers = sorted({int(layer) for layer in trace.routing["layer"]})
    k = int(trace.routing["rank"].max()) + 1
    fit = max(1, MOST_CHARACTERS // (len(layers) * (30 + 12 * k)))
    shown = here.head(min(tokens, fit))
    rows = trace.routing[
        (trace.routing["document"] == document) & trace.routing["position"].isin(shown["position"])
    ]
    note = [
        f"{count(len(rows))} routings: {plural(len(shown), 'token')} of the document's {count(len(said))}, "
        f"{plural(len(layers), 'layer')}, up to {plural(k, 'expert')} a token. Colour: the weight of the first.",
        f"Fewer than {tokens} tokens, to keep the figure light; start= moves on."
        if len(shown) == fit < min(tokens, len(here))
        else "",
        "A weight is what the router gives an expert, not what the expert does to the prediction.",
    ]
    absent = len(shown) * len(layers) - len(rows[rows["rank"] == 0])
    if absent:
        note.append(f"{plural(absent, 'cell')} without a row in the trace, left blank.")
    title = f"Routes of document {document}"
    under = f"{trace.facts.model}: from left to right the text, from top to bottom the layers."
    plot = face(rows, shown, layers)
    longest = min(14, max(len(repr(str(text))) - 2 for text in shown["text"]))
    above = 92 + 7 * longest  # the tokens stand aslant above the cells
    drawn = sheet(plot, title, under, note, height=above + 24 + 24 * max(3, len(layers)))
    return drawn.update_layout(margin_t=above)


def face(rows: Frame, tokens: Frame, layers: list[int]) -> go.Figure:
    """Tokens across, layers down, rank 0 in the cell."""
    import plotly.graph_objects as go

    positions = [int(p) for p in tokens["position"]]
    column = {p: i for i, p in enumerate(positions)}
    line = {layer: i for i, layer in enumerate(layers)}
    words = [repr(str(text))[1:-1] for text in tokens["text"]]
    weight = np.full((len(layers), len(positions)), np.nan, dtype="float32")
    first = np.full(weight.shape, "", dtype=object)
    tips = np.full(weight.shape, "", dtype=object)
    cells = rows.sort_values(["layer", "position", "rank"]).groupby(["layer", "position"])
    for (layer, position), part in cells:
        at = line[int(layer)], column[int(position)]
        top = part.iloc[0]
        weight[at], first[at] = top["weight"], str(int(top["expert"]))
        tips[at] = "<br>".join(f"{int(e)}: {w:.3f}" for e, w in zip(part["expert"], part["weight"]))
    plot = go.Figure()
    written = len(positions) <= WRITTEN
    plot.add_heatmap(
        z=weight,
        x=list(range(len(positions))),
        y=[f"layer {layer}" for layer in layers],
        text=first.tolist() if written else None,
        texttemplate="%{text}" if written else None,
        textfont={"size": 10},
        hovertext=tips.tolist(),
        hovertemplate="%{y}<br>expert: weight<br>%{hovertext}<extra></extra>",
        colorscale=palette.SEQUENTIAL,
        zmin=0,
        hoverongaps=False,
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": "gate<br>weight", "side": "top"},
            "thickness": 14,
        },
    )
    plot.update_xaxes(
        tickvals=list(range(len(positions))),
        ticktext=[inert(w if len(w) <= 14 else f"{w[:13]}\N{HORIZONTAL ELLIPSIS}") for w in words],
        tickangle=-60,
        side="top",
        tickfont={"family": "ui-monospace, monospace", "size": 11},
        showgrid=False,
        zeroline=False,
    )
    plot.update_yaxes(autorange="reversed", showgrid=False)
    return styled(plot, 400).update_traces(showlegend=False)
