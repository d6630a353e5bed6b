"""Figure: across the experts of a layer, does a metric rank them by the harm of editing them?"""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import SHOWN

from ..pages.tables import Column, folded, rows_of, table
from ..words.evidence import metric_name, outcome_name
from ..words.largest import ceiling, exceeded
from ..words.numbers import count, estimate, fixed, probability, significant
from ..words.operator import OperatorWords
from . import palette, svg
from .figure import Figure, styled

WIDTH, LEFT, ROW, TOP, PANEL = 980, 208, 27, 30, 190


DRAWN = ("delta_nll", "kl", "flip")  # the outcomes that `summary.cells` has


def associations(harm: Frame, cells: Frame, metrics: Frame, said: OperatorWords) -> Figure:
    """A matrix of rank correlations, and the metric that fares best drawn expert by expert.

    Parameters: `evidence.Evidence.harm`, `summary.cells` and the run's expert metrics.
    """
    tested = list(dict.fromkeys(harm["outcome"]))
    outcome = "delta_nll" if "delta_nll" in tested else tested[0]
    name = outcome_name(outcome).lower()
    rows = harm[harm["outcome"] == outcome]
    body: list[str] = []
    bottom = _matrix(body, rows)
    best = _best(rows) if outcome in DRAWN else None
    if best is not None:
        bottom = _scatter(body, rows, cells, metrics, best, outcome, bottom + 34)
    above, layers = len(_exceeded(rows)), rows["layer"].nunique()
    caption = Markup(
        "Upper part: Spearman's rank correlation, across the experts of a layer, between a metric "
        "(from other documents) and the expert's mean {0}; <strong>bold</strong> where it is shown "
        "after correction, over documents and over experts. The ceiling is about what a perfect metric would "
        "be seen to reach, given how well these documents determine the {0} itself; it is an estimate, with "
        "limits in the table, and no bound{2}. {1}"
    ).format(
        name,
        f"Lower part: {metric_name(best)[0]}, chosen afterwards because its median correlation is the "
        "largest in size; an illustration, not a test."
        if best
        else "",
        f" (*: some metric is seen above it, in {count(above)} of {count(layers)} layers)"
        if above
        else "",
    )
    asks = "Which experts can be spared? " if said.removes and outcome == "delta_nll" else ""
    names = list(dict.fromkeys(rows["metric"]))
    return Figure(
        "associations",
        f"{asks}{name.capitalize()} per expert against each metric",
        caption,
        svg.document(WIDTH, bottom, f"Rank correlation of {name} and metric by layer", body, 720),
        folded("Every correlation as a table", _table(harm)),
        _plot(cells, metrics, names, outcome, said) if outcome in DRAWN else None,
    )


def _best(rows: Frame) -> str | None:
    part = rows[(rows["role"] == "metric") & rows["rho"].notna()]
    if part.empty:
        return None
    return str(part.groupby("metric")["rho"].median().abs().idxmax())


def _matrix(body: list[str], rows: Frame) -> float:
    layers = sorted(int(x) for x in rows["layer"].unique())
    names = list(dict.fromkeys(rows["metric"]))
    controls = set(rows.loc[rows["role"] == "control", "metric"])
    width = min(130.0, (WIDTH - LEFT - 10) / len(layers))
    written = width >= 34
    for i, layer in enumerate(layers):
        if width >= 20 or i % 2 == 0:
            x = LEFT + (i + 0.5) * width
            body.append(svg.text(x, TOP - 10, str(layer), "tick", "middle"))
    body.append(svg.text(LEFT - 8, TOP - 10, "layer", "tick", "end"))
    y = float(TOP)
    for name in names:
        if name in controls and y == TOP + ROW * (len(names) - len(controls)):
            body.append(svg.line(0, y + 6, LEFT + width * len(layers), y + 6, "rule"))
            y += 12
        label, detail = metric_name(name)
        body.append(svg.text(0, y + 17, label, "label"))
        body.append(
            svg.text(
                LEFT - 8, y + 17, detail if len(label) + len(detail) < 31 else "", "tiny", "end"
            )
        )
        for row in rows[rows["metric"] == name].itertuples():
            x = LEFT + layers.index(int(row.layer)) * width
            _matrix_cell(body, row, x, y, width, written)
        y += ROW
    y += 8
    body.append(svg.text(0, y + 15, "noise ceiling", "label"))
    above = _exceeded(rows)
    for row in rows.drop_duplicates("layer").itertuples():
        x = LEFT + (layers.index(int(row.layer)) + 0.5) * width
        words = fixed(float(row.ceiling), 2) + ("*" if int(row.layer) in above else "")
        if written:
            body.append(svg.text(x, y + 15, words, "muted", "middle"))
        else:
            body.append(svg.rect(x - width / 2, y + 4, width - 1, 14, "panel", f"ceiling {words}"))
    return y + 24


def _exceeded(rows: Frame) -> set[int]:
    """Layers where a metric is seen above the estimate of the ceiling."""
    metrics = rows[rows["role"] == "metric"].to_dict("records")
    return {int(r["layer"]) for r in metrics if exceeded(r)}


def _matrix_cell(body, row, x: svg.Number, y: svg.Number, width: svg.Number, written: bool) -> None:
    rho = float(row.rho)
    label = metric_name(row.metric)[0]
    if math.isnan(rho):
        why = f"{label}, layer {row.layer}: {row.reason or 'not estimable'}"
        body.append(svg.rect(x, y, width - 1, ROW - 1, "none", why))
        return
    words = f"{label}, layer {row.layer}: rho {estimate(rho, row.low, row.high)}, {row.verdict}"
    css = palette.diverging(rho, 1.0)
    body.append(svg.rect(x, y, width - 1, ROW - 1, css, words))
    sure = row.verdict in SHOWN
    if written:
        kind = f"in on-{css}{' bold' if sure else ''}"
        body.append(svg.text(x + width / 2, y + 17, fixed(rho, 2, True), kind, "middle"))
    elif sure:
        body.append(svg.mark(x + width / 2, y + ROW / 2, "circle", f"dot on-{css}", r=1.6))


def _scatter(body, rows, cells, metrics, name: str, outcome: str, y: svg.Number) -> float:
    """Small multiples by layer: the metric across, the mean outcome up, both as they are."""
    title = _mean(outcome)
    layers = sorted(int(x) for x in rows["layer"].unique())
    shown = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, 6).round().astype(int))]
    gap = 34
    width = (WIDTH - 50 - gap * (len(shown) - 1)) / len(shown)
    width = min(width, 230.0)
    values = metrics[metrics["metric"] == name][["layer", "expert", "value"]]
    joined = cells[cells["rows"] > 0].merge(values, on=["layer", "expert"])
    body.append(svg.text(0, y, f"{title} against {metric_name(name)[0]}", "title"))
    y += 26
    for i, layer in enumerate(shown):
        x0 = 50 + i * (width + gap)
        part = joined[joined["layer"] == layer]
        body.append(svg.text(x0, y - 5, f"layer {layer}", "tick"))
        body.append(svg.rect(x0, y, width, PANEL - 60, "panel"))
        if part.empty:
            continue
        low, high = float(part[outcome].min()), float(part[outcome].max())
        low, high = min(low, 0.0), max(high, 0.0)
        sy = svg.linear(low, high, y + PANEL - 66, y + 6)
        sx = svg.linear(
            float(part["value"].min()), float(part["value"].max()), x0 + 7, x0 + width - 7
        )
        body.append(svg.line(x0, sy(0), x0 + width, sy(0), "zero"))
        marks = svg.ticks(low, high, 3)
        for tick, words in zip(marks, svg.tick_texts(marks)):
            body.append(svg.text(x0 - 4, sy(tick) + 3, words, "tiny", "end"))
        for row in part.itertuples():
            mean, *limits = (getattr(row, f"{outcome}{end}") for end in ("", "_low", "_high"))
            kind = outcome_name(outcome).lower()
            words = f"expert {row.expert}: {significant(row.value, 3)}; {kind} {estimate(mean, *limits)}"
            body.append(svg.mark(sx(row.value), sy(mean), "circle", "point", words, 3))
        ends = (part["value"].min(), "start"), (part["value"].max(), "end")
        for value, anchor in ends:
            x = x0 if anchor == "start" else x0 + width
            body.append(svg.text(x, y + PANEL - 46, significant(float(value), 2), "tiny", anchor))
    return y + PANEL - 30


def _table(frame: Frame) -> Markup:
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("role", lambda r: r["role"], text=True),
        Column("layer", lambda r: r["layer"]),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        Column("experts", lambda r: count(r["n_experts"])),
        Column("rho [95% interval]", lambda r: estimate(r["rho"], r["low"], r["high"])),
        Column("ceiling [95% interval]", ceiling),
        Column("p adjusted", lambda r: probability(r["p_adjusted"])),
        Column("verdict", lambda r: r["verdict"] or "", text=True),
    ]
    notes = [
        "The intervals keep the experts and vary the documents: they say how well the harm is known.",
        "The ceiling is an estimate of what a perfect metric would be seen to reach, and no bound.",
        "p permutes the experts of a layer and is adjusted for all metric correlations; a verdict needs "
        "documents as well.",
    ]
    return table(rows_of(frame), columns, "Rank correlation of metric and expected effect", notes)


def _mean(outcome: str) -> str:
    return f"Mean {outcome_name(outcome).lower()}{'' if outcome == 'flip' else ' (nats)'}"


def _plot(cells: Frame, metrics: Frame, names: list[str], outcome: str, said: OperatorWords):
    import plotly.graph_objects as go

    plot = go.Figure()
    known = [n for n in names if (metrics["metric"] == n).any()]
    for i, name in enumerate(known):
        values = metrics[metrics["metric"] == name][["layer", "expert", "value"]]
        part = cells[cells["rows"] > 0].merge(values, on=["layer", "expert"])
        plot.add_scatter(
            x=part["value"].astype(float).map(lambda v: float(f"{v:.4g}")),
            y=part[outcome].map(lambda v: float(f"{v:.4g}")),
            mode="markers",
            visible=i == 0,
            name=metric_name(name)[0],
            marker={
                "color": part["layer"],
                "colorscale": "Viridis",
                "size": 9,
                "colorbar": {"title": {"text": "layer"}},
            },
            customdata=part[["layer", "expert", "rows"]],
            hovertemplate="layer %{customdata[0]}, expert %{customdata[1]}<br>value %{x}<br>"
            f"{_mean(outcome)} %{{y}}<br>%{{customdata[2]}} {said.many}<extra></extra>",
        )
    buttons = [
        {
            "label": metric_name(name)[0],
            "method": "update",
            "args": [
                {"visible": [j == i for j in range(len(known))]},
                {"xaxis.title.text": metric_name(name)[0]},
            ],
        }
        for i, name in enumerate(known)
    ]
    plot.update_layout(
        showlegend=False,
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.15, "yanchor": "top"}],
    )
    plot.update_xaxes(title=metric_name(known[0])[0] if known else "", zeroline=False)
    plot.update_yaxes(title=_mean(outcome), zeroline=True)
    return styled(plot, 460)
