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

from ..words.evidence import metric_name, outcome_name
from ..words.numbers import count, layers_text, plural
from .effects import asked
from .expert_points import GAP, PANEL, PER_ROW, calm, face, number
from .sheet import require, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_PANELS = 24
MOST_POINTS = 2_000
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
        y for y in layers if y not in rows or number(rows[y]["rho"]) != number(rows[y]["rho"])
    ]
    reasons = "; ".join(dict.fromkeys(str(rows[y]["reason"]) for y in lacking if y in rows))
    why = (
        f"No rank correlation in {layers_text(lacking)}{f': {reasons}' if reasons else ''}."
        if lacking
        else ""
    )
    above = [y for y in layers if y in rows and number(rows[y]["rho"]) > number(rows[y]["ceiling"])]
    if above:
        why += (
            f" In {plural(len(above), 'layer')} rho lies above the ceiling, which is an estimate with limits of its "
            "own and no bound."
        )
    return rows, why
