"""Figure: the harm of every expert of a layer against a metric, with limits by document and the noise ceiling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame
from moeaudit.stats.contrast.checks import OUTCOMES as KNOWN
from moeaudit.stats.contrast.checks import metrics_table, require_per_expert
from moeaudit.stats.least import REMOVALS_FOR_LIMITS
from moeaudit.stats.ranking.by_expert import harm_by_expert
from moeaudit.stats.ranking.ranking import expert_harm
from moeaudit.stats.ranking.table import QUESTION

from ..figures.figure import styled
from ..words.evidence import metric_name, outcome_name
from ..words.numbers import count, estimate, fixed, interval, layers_text, plural
from .effects import asked
from .sheet import inert, require, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_PANELS, PER_ROW, PANEL, GAP = 24, 4, 190, 96
MOST_POINTS = 2_000
SYMBOLS = {False: "circle", True: "circle-open"}  # by whether removals are few
NATS = ("delta_nll", "abs_delta_nll", "kl", "delta_entropy")
METRICS = "Pass the table that ma.expert_metrics(trace) returns: layer, expert, metric, value."


def harm_against_metric(
    effects: Any,
    metrics: Any,
    metric: str,
    *,
    outcome: str = "delta_nll",
    layers: Sequence[int] | None = None,
    table: Any = None,
) -> go.Figure:
    """The mean outcome of editing each expert against a metric of it: one point an expert, one panel a layer.

    Parameters
    ----------
    effects
        What `ablate` or an audit gives, one row for each active expert, of all removals or of a sample: document,
        position, layer, rank, expert and the outcome's column.
    metrics
        Expert metrics from other documents: layer, expert, metric, value (in the metric's own unit).
    metric
        Which of them.
    outcome
        As for `ma.expert_harm`: "delta_nll" (harm, nats), "abs_delta_nll", "kl" (nats), "flip" (share) ...
    layers
        Which layers; as many as the figure holds, evenly through the depth, if None. The note names the rest.
    table
        The answer of `ma.expert_harm`, or a run's `tests`, for the rank correlation rho and the noise ceiling in each
        panel's title. None: they are computed for this metric, where documents suffice; the note says if they do not.

    Returns
    -------
    A plotly figure. Bars hold 95%, by document (`harm_by_expert`). The ceiling is about what a perfect metric would be
    seen to reach, and an estimate. Every panel has its own scales. Experts without a value are counted in the note.

    Raises InputError for missing columns, no rows, an unknown metric or outcome, layers that are not there, and effects
    whose rows are not about one expert each.
    """
    one_of(outcome, KNOWN, "outcome")
    require(metrics, ["layer", "expert", "metric", "value"], "The metrics table", METRICS)
    scores: Frame = metrics_table(metrics)
    one_of(metric, list(dict.fromkeys(scores["metric"].astype(str))), "metric")
    require_per_expert(effects)
    known = asked(effects)
    harm: Frame = harm_by_expert(effects, outcome=outcome, layers=layers)
    scores = scores[scores["metric"].astype(str) == metric][["layer", "expert", "value"]]
    joined = harm.merge(scores, on=["layer", "expert"], how="left")
    absent = int(joined["value"].isna().sum())
    points = joined[joined["value"].notna()]
    if points.empty:
        raise InputError(
            f"No expert in the effects has a value of {metric}, so there is nothing to draw: the effects hold "
            f"layers {layers_text([int(y) for y in sorted(harm['layer'].unique())])}, the metric "
            f"{layers_text([int(y) for y in sorted(scores['layer'].unique())])}. Measure both on the same model."
        )
    shown, left = _fitting(points)
    ranks, why = _ranks(effects, metrics, metric, outcome, shown, table)
    drawn = points[points["layer"].isin(shown)]
    few = int((drawn["rows"] < REMOVALS_FOR_LIMITS).sum())
    name = outcome_name(outcome).lower()
    note = [
        known.behind(drawn["rows"].sum(), drawn["documents"].max()).replace(" in ", " in up to "),
        f"{count(len(drawn))} points, one an expert; bars hold 95%, by document. Each "
        "panel has its own scales.",
        f"{plural(absent, 'expert')} without a value of the metric left out." if absent else "",
        f"{plural(few, 'expert')} with fewer than {REMOVALS_FOR_LIMITS} {known.said.many}, whose limits may be too "
        "short (hollow)."
        if few
        else "",
        f"Layers {layers_text(left)} are left out to keep the figure light; layers= chooses."
        if left
        else "",
        why,
    ]
    beyond = 0
    for _, part in drawn.groupby("layer"):
        low, high = calm(part)
        beyond += int(((part["harm_low"] < low) | (part["harm_high"] > high)).sum())
    if beyond:
        note.append(f"{plural(beyond, 'bar')} beyond the axis; double-click to see all.")
    plot = face(drawn, metric, outcome, ranks, known.said.many)
    title = f"{name.capitalize()} per expert against {metric_name(metric)[0]}"
    down = math.ceil(len(shown) / PER_ROW)
    height = 136 + PANEL * down + GAP * (down - 1)
    return sheet(plot, title, known.doing, note, height=height).update_layout(margin_t=136)


def _fitting(points: Frame) -> tuple[list[int], list[int]]:
    """The layers that are drawn, evenly through the depth, and those left out."""
    layers = sorted({int(layer) for layer in points["layer"]})
    widest = int(points.groupby("layer").size().max())
    room = max(1, min(MOST_PANELS, MOST_POINTS // widest, len(layers)))
    places = np.unique(np.linspace(0, len(layers) - 1, room).round().astype(int))
    shown = [layers[i] for i in places]
    return shown, [layer for layer in layers if layer not in shown]


def _ranks(
    effects: Any, metrics: Any, metric: str, outcome: str, layers: list[int], table: Any
) -> tuple[dict[int, dict[str, Any]], str]:
    """The rows of `expert_harm` by layer, and why there are none."""
    if table is None:
        scores = metrics_table(metrics)
        try:
            table = expert_harm(
                effects, scores[scores["metric"].astype(str) == metric], outcome=outcome, layers=layers,
                controls=("random",),
            )  # fmt: skip
        except InputError as error:
            return {}, f"No rank correlation and no ceiling: {error}"
    needs = [
        "question",
        "metric",
        "outcome",
        "layer",
        "rho",
        "rho_low",
        "rho_high",
        "ceiling",
        "reason",
    ]
    require(table, needs, "The table of rank correlations", "Pass what ma.expert_harm returns.")
    mine = table[
        (table["question"] == QUESTION)
        & (table["metric"] == metric)
        & (table["outcome"] == outcome)
    ]
    if mine.empty:
        return {}, f"The table of rank correlations has no row of {metric} and {outcome}."
    rows = {int(row["layer"]): row for row in mine.to_dict("records")}
    lacking = [
        y for y in layers if y not in rows or _number(rows[y]["rho"]) != _number(rows[y]["rho"])
    ]
    reasons = "; ".join(dict.fromkeys(str(rows[y]["reason"]) for y in lacking if y in rows))
    why = (
        f"No rank correlation in {layers_text(lacking)}{f': {reasons}' if reasons else ''}."
        if lacking
        else ""
    )
    above = [
        y for y in layers if y in rows and _number(rows[y]["rho"]) > _number(rows[y]["ceiling"])
    ]
    if above:
        why += (
            f" In {plural(len(above), 'layer')} rho lies above the ceiling, which is an estimate with limits of its "
            "own and no bound."
        )
    return rows, why


def _number(value: Any) -> float:
    try:
        return float(value)
    except TypeError:  # pd.NA
        return math.nan


def face(
    points: Frame, metric: str, outcome: str, ranks: dict[int, dict[str, Any]], many: str
) -> go.Figure:
    """Small multiples by layer: the metric across, the mean outcome up, both as they are."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    layers = sorted({int(layer) for layer in points["layer"]})
    across = min(PER_ROW, len(layers))
    down = math.ceil(len(layers) / across)
    plot = make_subplots(
        rows=down, cols=across, subplot_titles=[_heading(y, ranks.get(y)) for y in layers],
        horizontal_spacing=0.24 / across, vertical_spacing=GAP / (PANEL * down + GAP * (down - 1)),
    )  # fmt: skip
    unit = "nats" if outcome in NATS else ""
    kind, measured = outcome_name(outcome).lower(), inert(metric_name(metric)[0])
    for i, layer in enumerate(layers):
        mine = points[points["layer"] == layer]
        few = (mine["rows"] < REMOVALS_FOR_LIMITS).to_numpy()
        plot.add_trace(
            go.Scatter(
                x=_short(mine["value"]),
                y=_short(mine["harm"]),
                error_y={
                    "type": "data",
                    "array": _short(mine["harm_high"] - mine["harm"]),
                    "arrayminus": _short(mine["harm"] - mine["harm_low"]),
                    "thickness": 1,
                    "width": 0,
                    "color": "#b9b9b9",
                },
                mode="markers",
                showlegend=False,
                name=f"layer {layer}",
                marker={
                    "size": 7,
                    "color": "#7154a5",
                    "symbol": [SYMBOLS[x] for x in few] if few.any() else SYMBOLS[False],
                },
                customdata=mine[["expert", "harm_low", "harm_high", "rows", "documents"]].to_numpy(
                    "float32"
                ),
                hovertemplate=f"layer {layer}, expert %{{customdata[0]:d}}<br>{measured} %{{x:.3g}}<br>{kind} "
                f"%{{y:+.3g}} [%{{customdata[1]:+.3g}}, %{{customdata[2]:+.3g}}] {unit}<br>"
                f"%{{customdata[3]:,d}} {many} in %{{customdata[4]:,d}} documents<extra></extra>",
            ),
            row=i // across + 1,
            col=i % across + 1,
        )
    plot.update_xaxes(zeroline=False, gridcolor="#efefef", nticks=4, tickfont={"size": 11})
    plot.update_yaxes(
        zeroline=True, zerolinecolor="#888888", gridcolor="#efefef", nticks=5, tickfont={"size": 11}
    )
    for i in range(len(layers)):
        if i + across >= len(layers):
            plot.update_xaxes(title=measured, row=i // across + 1, col=i % across + 1)
    plot.update_yaxes(title=f"mean {kind}{f', {unit}' if unit else ''}", col=1)
    plot.update_annotations(font={"size": 12})
    for i, layer in enumerate(layers):
        span = list(calm(points[points["layer"] == layer]))
        plot.update_yaxes(range=span, row=i // across + 1, col=i % across + 1)
    return styled(plot, 400)


def calm(points: Frame) -> tuple[float, float]:
    """The range of a panel: zero, all means, and limits up to three times the usual half-width beyond them."""
    half = ((points["harm_high"] - points["harm_low"]) / 2).quantile(0.75)
    most = 3 * float(half) if half == half else 0.0
    low, high = float(points["harm"].min()), float(points["harm"].max())
    low = min(0.0, low, max(float(points["harm_low"].min()), low - most))
    high = max(0.0, high, min(float(points["harm_high"].max()), high + most))
    room = 0.05 * (high - low) or 1e-6
    return low - room, high + room


def _short(values: Any) -> np.ndarray:
    return values.to_numpy("float32")


def _heading(layer: int, row: dict[str, Any] | None) -> str:
    if row is None or math.isnan(_number(row["rho"])):
        return f"layer {layer}"
    rho = estimate(_number(row["rho"]), _number(row["rho_low"]), _number(row["rho_high"]))
    words = f"<b>layer {layer}</b><br>\N{GREEK SMALL LETTER RHO} {rho}"
    low, high = _number(row.get("ceiling_low")), _number(row.get("ceiling_high"))
    known = "" if math.isnan(low + high) else f" {interval(low, high, 2, sign=False)}"
    return f"{words}<br>ceiling {fixed(_number(row['ceiling']), 2)}{known}"
