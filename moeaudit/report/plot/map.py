"""Figure: layer x expert maps of harm, disturbance and use, to explore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame
from moeaudit.stats.contrast.frames import frames_of

from ..figures import palette
from ..figures.figure import styled
from ..words.numbers import count, plural
from ..words.operator import OperatorWords
from ..words.subject import COLUMNS, SubjectCells
from ..words.summary import Cells
from .effects import asked, summarised
from .sheet import ABOVE, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

# column: (name, colours, signed, what its numbers are, format of a number)
VALUES = {
    "delta_nll": ("Mean harm", palette.DIVERGING, True, "nats", "+.3g"),
    "kl": ("Mean disturbance", palette.SEQUENTIAL, False, "nats", ".3g"),
    "share": ("Use", palette.SEQUENTIAL, False, "share of tokens", ".3g"),
}
ALL_THREE = 1_500  # cells: above it a figure shows one map
WITH_TIPS = 6_000  # cells: above it tips leave out limits and documents


def map(
    effects: Any, *, value: str = "delta_nll", num_experts: Mapping[int, int] | int | None = None
) -> go.Figure:
    """Where in the model: the mean effect of every expert of every layer, as a layer x expert map.

    Parameters
    ----------
    effects
        What `ablate` or an audit gives, of all removals or of a sample (`share=`): a DataFrame or shards with
        document, position, layer, expert, delta_nll (nats), kl (nats) and flip, one row a removal.
    value
        The map that is shown first: "delta_nll" (harm, nats), "kl" (disturbance, nats) or "share" (use, the share of
        the audited tokens that the expert was active for). A menu leads to the others, up to 1,500 cells.
    num_experts
        Experts of each layer, or one number for all: so that experts that were never active have a cell (a cross).
        None: as many as the rows name, which the note says.

    Returns
    -------
    A plotly figure. Tips hold the mean, its 95% limits by document, and how many removals and documents stand behind
    it; a dot marks cells whose limits exclude zero. Colours end at the 98% quantile of the sizes. Where rows are about
    ranks, sets or whole layers, cells are.

    Raises InputError for missing columns, no rows, NaN, effects of several questions, and unknown `value`.
    """
    one_of(value, VALUES, "value=")
    known = asked(effects)
    said = known.said
    note = []
    if said.subject == "expert":
        experts, guessed = _experts(effects, num_experts)
        note += ["How many experts a layer has is read off the rows."] if guessed else []
        summary: Any = Cells(experts)
    else:
        summary = SubjectCells(said.subject, known.limits)
    tables, behind = summarised(effects, known, cells=summary)
    cells = tables["cells"]
    usable = ["delta_nll", "kl"]
    if said.subject == "expert" and known.share == 1:
        usable.append("share")
    if value not in usable:
        why = (
            "of a sample of removals it is not known here; ma.expert_metrics(trace) has it as utilisation"
            if known.share < 1
            else f"the rows are about one {said.subject or 'layer'}, not about experts"
        )
        raise InputError(f"Use cannot be drawn: {why}. Choose value='delta_nll' or value='kl'.")
    shown = [value, *(v for v in usable if v != value)] if len(cells) <= ALL_THREE else [value]
    if len(shown) < len(usable):
        note.append(f"One map of {len(usable)}, to keep the figure light; value= chooses.")
    if len(cells) > WITH_TIPS:
        note.append("Tips leave out limits and documents; ma.harm_by_expert(effects) has them.")
    idle = int((cells["rows"] == 0).sum())
    if idle:
        note.append(f"{plural(idle, 'expert')} never active on these documents (crosses).")
    if known.share < 1 and said.subject == "expert":
        note.append("Use is left out: a sample of removals does not show it.")
    one = int(((cells["documents"] == 1) & (cells["rows"] > 0)).sum())
    if one:
        note.append(f"{plural(one, 'cell')} of one document, without limits.")
    figure = face(cells, said, shown)
    each = COLUMNS[said.subject][1] or "every layer"
    where = each if each == "every layer" else f"{each} of every layer"
    note = [
        f"{behind} {count(len(cells))} cells; limits hold 95%, by document, each cell on its own. Colours "
        "end at the 98% quantile of the sizes.",
        *note,
    ]
    rows = cells["layer"].nunique()
    return sheet(
        figure, f"Where in the model: {where}", known.doing, note, height=180 + max(160, 20 * rows)
    )


def _experts(effects: Any, given: Mapping[int, int] | int | None) -> tuple[dict[int, int], bool]:
    """Experts of each layer, and whether they were read off the rows."""
    seen: dict[int, int] = {}
    frame: Frame
    for frame in frames_of(effects, ["layer", "expert"], "The effects table"):
        for layer, most in frame.groupby("layer")["expert"].max().items():
            seen[int(layer)] = max(seen.get(int(layer), 0), int(most) + 1)
    if given is None:
        return seen, True
    wanted = {layer: given if isinstance(given, int) else given.get(layer) for layer in seen}
    short = {y: n for y, n in wanted.items() if n is None or n < seen[y]}
    if short:
        layer = min(short)
        raise InputError(
            f"num_experts gives layer {layer} {'no number' if short[layer] is None else short[layer]}, and the effects "
            f"name expert {seen[layer] - 1} there. Give the number of experts of every layer in the effects "
            f"({', '.join(str(y) for y in sorted(seen))}), as trace.facts.num_experts has it."
        )
    return {y: int(n or 0) for y, n in wanted.items()}, False


def face(cells: Frame, said: OperatorWords, values: Sequence[str] | None = None) -> go.Figure:
    """The maps of `summary.Cells`, one shown at a time, with a menu; the face of the report's map too."""
    import plotly.graph_objects as go

    heading, _, _, first = COLUMNS[said.subject]
    if values is None:
        values = ["delta_nll", "kl", "share"] if said.subject == "expert" else ["delta_nll", "kl"]
    plot = go.Figure()
    for i, column in enumerate(values):
        _heat(plot, cells, said, column, shown=i == 0)
    on: list[list[str]] = [[column] for column in values]
    if "delta_nll" in values:
        sure = cells[(cells["delta_nll_low"] > 0) | (cells["delta_nll_high"] < 0)]
        name, visible = "95% limits of harm exclude 0", values[0] == "delta_nll"
        _marks(plot, sure, said, name, "circle", "#000000", 4, visible)
        on.append(["delta_nll"])
    idle = cells[cells["rows"] == 0]
    if len(idle):
        _marks(plot, idle, said, "never active here", "x-thin-open", "#8a8a8a", 6, True)
        on.append(list(values))
    if len(values) > 1:
        buttons = [
            {
                "label": f"{VALUES[column][0]} ({VALUES[column][3]})",
                "method": "restyle",
                "args": ["visible", [column in which for which in on]],
            }
            for column in values
        ]
        place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
        plot.update_layout(updatemenus=[{"buttons": buttons, **place}])
    plot.update_xaxes(title=heading, showgrid=False, zeroline=False, constrain="domain")
    if not heading:
        plot.update_xaxes(showticklabels=False)
    plot.update_xaxes(range=[first - 0.5, first + int(cells["expert"].max()) + 0.5])
    plot.update_yaxes(autorange="reversed", showgrid=False)
    return styled(plot, 420).update_layout(legend=ABOVE)


def _heat(plot: go.Figure, cells: Frame, said: OperatorWords, column: str, *, shown: bool) -> None:
    heading, _, _, first = COLUMNS[said.subject]
    name, colours, signed, unit, form = VALUES[column]
    wide = cells.pivot(index="layer", columns="expert")
    grid = wide[column].to_numpy("float32")
    sizes = np.abs(grid[np.isfinite(grid)])
    most = float(np.quantile(sizes, 0.98)) if sizes.size else 0.0
    top = most or (float(sizes.max()) if sizes.size else 0.0) or 1.0
    tips = [wide[c].to_numpy("float32") for c in _tip_columns(column, len(cells))]
    where = f"%{{y}}, {heading} %{{x}}" if heading else "%{y}"
    text = f"{where}<br>{name.lower()} %{{z:{form}}}"
    at = 0
    if f"{column}_low" in _tip_columns(column, len(cells)):
        text += f" [%{{customdata[0]:{form}}}, %{{customdata[1]:{form}}}]"
        at = 2
    text += f" {unit}<br>%{{customdata[{at}]:,d}} {said.many}"
    if len(tips) > at + 1:
        text += f" in %{{customdata[{at + 1}]:,d}} documents"
    plot.add_heatmap(
        z=grid,
        x=np.array([first + int(x) for x in wide[column].columns]),
        y=[said.place(int(y)) for y in wide.index],
        colorscale=colours,
        zmin=-top if signed else 0,
        zmax=top,
        visible=shown,
        name=name,
        customdata=np.stack(tips, axis=-1),
        hoverongaps=False,
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": unit.replace(" of ", "<br>of "), "side": "top"},
            "len": 0.8,
            "y": 0,
            "yanchor": "bottom",
            "thickness": 14,
            "ticklabeloverflow": "allow",
        },
        hovertemplate=f"{text}<extra></extra>",
    )


def _tip_columns(column: str, cells: int) -> list[str]:
    if cells > WITH_TIPS:
        return ["rows"]
    limits = [] if column == "share" else [f"{column}_low", f"{column}_high"]
    return [*limits, "rows", "documents"]


def _marks(
    plot: go.Figure, cells: Frame, said: OperatorWords, name: str, symbol: str, colour: str,
    size: int, visible: bool,
) -> None:  # fmt: skip
    first = COLUMNS[said.subject][3]
    idle = symbol.startswith("x")
    plot.add_scatter(
        x=(first + cells["expert"]).to_numpy("int16"),
        y=[said.place(int(y)) for y in cells["layer"]],
        mode="markers",
        name=name,
        showlegend=True,
        visible=visible,
        marker={
            "symbol": symbol,
            "size": size,
            "color": colour,
            "line": {"width": 1, "color": colour},
        },
        hoverinfo="text" if idle else "skip",
        hovertext=name if idle else None,
    )
