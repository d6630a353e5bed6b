"""Figure: how far each routing metric orders a token's active experts by effect, to explore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError
from moeaudit.stats.contrast.contrast import QUESTION

from ..words.evidence import read
from ..words.numbers import count, layers_text, plural
from .sheet import ABOVE, require, sheet
from .verdict_points import HIGH, MOST_LEVEL, face, order_of
from .verdict_points import beyond as past

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEEDS = ["question", "outcome", "metric", "role", "layer", "n", "n_documents"]
NEEDS += ["d_z", "d_z_low", "d_z_high", "p", "p_maxt", "verdict", "reason"]


def contrasts(table: Any) -> go.Figure:
    """Do routing metrics predict the effect? d_z of every metric and control, layer by layer, with its verdict.

    Parameters
    ----------
    table
        What `ma.contrast` returns (several under each other: `ma.stats.together`), or a run's `tests`: question,
        outcome, metric, role, layer, n, n_documents, d_z with `_low` and `_high` (95% by document), p, p_maxt, verdict,
        reason; sesoi, null_low and null_high are drawn if there. d_z has no unit: the mean difference between a token's
        highest- and lowest-metric active expert over its standard deviation across tokens.

    Returns
    -------
    A plotly figure, a panel an outcome. Within a metric layers stand side by side, rising. Grey boxes are the zone of
    no interest, dashed ones hold 95% of what luck over experts gives. A panel ends where its metrics do; what reaches
    further is counted in the note.

    Raises InputError for missing columns, no rows, a table that tests nothing, or none of this question.
    """
    advice = "Pass the table that ma.contrast(effects, metrics) returns, or an audit's run.tests."
    require(table, NEEDS, "The table of contrasts", advice)
    evidence = read(table)
    if evidence.untested:
        why = "; ".join(dict.fromkeys(evidence.untested.values()))
        raise InputError(
            f"Nothing was tested in this table ({why}), so there is no contrast to draw. {advice}"
        )
    frame = evidence.contrasts
    if frame.empty:
        asks = ", ".join(sorted(set(table["question"].astype(str))))
        raise InputError(
            f"The table holds no {QUESTION}, only {asks}, so there is no contrast to draw. {advice}"
        )
    names, outcomes = order_of(frame)
    other = len(table) - len(frame)
    absent = int(frame["d_z"].isna().sum())
    beyond = sum(past(frame[frame["outcome"] == outcome]) for outcome in outcomes)
    layers = sorted({int(layer) for layer in frame["layer"]})
    least, most = count(frame["n"].min()), count(frame["n"].max())
    tokens = least if least == most else f"{least} to {most}"
    note = [
        f"{plural(len(frame), 'contrast')}, {tokens} tokens of "
        f"{plural(int(frame['documents'].max()), 'document')} each; layers {layers_text(layers)} from left to right in "
        "each metric. Bars hold 95%, by document.",
        f"Grey: the zone of no interest, less than {evidence.bound} (of each cell, in its own d_z)."
        if frame["sesoi"].notna().any()
        else "",
        f"{plural(absent, 'contrast')} not estimable (crosses at 0; the tip says why)."
        if absent
        else "",
        f"{plural(beyond, 'point or bar', 'points or bars')} beyond the axis; double-click to see all."
        if beyond
        else "",
        f"{plural(other, 'row')} of other questions left out (ma.plot.harm_against_metric draws them)."
        if other
        else "",
    ]
    plot = face(frame, names, outcomes)
    under = "Within each token, the active expert with the highest value of the metric against the one with the lowest."
    out = sheet(
        plot,
        "Do routing metrics predict the effect?",
        under,
        note,
        height=110 + HIGH * len(outcomes),
        labels=64 if len(names) > MOST_LEVEL else 16,
    )
    return out.update_layout(legend=ABOVE, margin_t=130)
