"""Figure: across the experts of a layer, does a metric rank them by the harm of editing them?"""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import SHOWN

from ..pages.tables import Column, folded, number, rows_of, table
from ..words.evidence import metric_name, outcome_name
from ..words.largest import ceiling, exceeded
from ..words.numbers import count, estimate, fixed, probability, significant
from ..words.operator import OperatorWords
from . import palette, svg
from .figure import Figure, styled

WIDTH, LEFT, ROW, TOP = 1080, 208, 27, 30
NARROW, LEFT_NARROW = 400, 118
SQUARE, HEIGHT = 240, 190  # of a layer's scatter


DRAWN = ("delta_nll", "kl", "flip")  # the outcomes that `summary.cells` has


def associations(harm: Frame, cells: Frame, metrics: Frame, said: OperatorWords) -> Figure:
    """A matrix of rank correlations, and the metric that fares best drawn expert by expert.

    Parameters: `evidence.Evidence.harm`, `summary.cells` and the run's expert metrics.
    """
    tested = list(dict.fromkeys(harm["outcome"]))
    outcome = "delta_nll" if "delta_nll" in tested else tested[0]
    name = outcome_name(outcome).lower()
    rows = harm[harm["outcome"] == outcome]
    title = f"Rank correlation of {name} and metric by layer"
    drawing = svg.either(
        _matrix(rows, WIDTH, LEFT, title), _matrix(rows, NARROW, LEFT_NARROW, title)
    )
    best = _best(rows) if outcome in DRAWN else None
    if best is not None:
        drawing += _scatter(rows, cells, metrics, best, outcome)
    above, layers = len(_exceeded(rows)), rows["layer"].nunique()
    caption = Markup(
        "Upper part: Spearman's rank correlation, from -1 (blue) to +1 (orange), across the experts of a layer, "
        "between a metric (from other documents) and the expert's mean {0}; <strong>bold</strong>, or a dot in small "
        "cells, where it is shown after correction, over documents and over experts. The ceiling is about what a "
        "perfect metric would be seen to reach, given how well these documents determine the {0} itself; it is an "
        "estimate, with limits in the table, and no bound{2}. {1}"
    ).format(
        name,
        f"Lower part: every expert by its rank in {metric_name(best)[0]}, chosen afterwards because its median "
        "correlation is the largest in size; an illustration, not a test."
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
        Markup("{}{}").format(_key(), drawing),
        folded("Every correlation as a table", _table(harm)),
        _plot(cells, metrics, names, outcome, said) if outcome in DRAWN else None,
    )


def _best(rows: Frame) -> str | None:
    part = rows[(rows["role"] == "metric") & rows["rho"].notna()]
    if part.empty:
        return None
    return str(part.groupby("metric")["rho"].median().abs().idxmax())


def _key() -> Markup:
    """What the colours of the matrix are, and its other signs."""
    values = (-0.8, -0.4, -0.1, 0.0, 0.1, 0.4, 0.8)
    cells = [
        svg.rect(0.5 + 24 * i, 3, 23, 13, f"{palette.diverging(v, 1.0)} key")
        for i, v in enumerate(values)
    ]
    words = "rank correlation: " + ", ".join(fixed(v, 1, True) for v in values)
    scale = Markup(
        f'<svg width="170" height="20" viewBox="0 0 170 20" class="chart sign" role="img" '
        f'aria-label="{words}">{"".join(cells)}</svg>'
    )
    ends = svg.sign("", f"rho about {', '.join(fixed(v, 1, True) for v in values)}")
    return svg.signs([scale, ends, svg.sign(svg.rect(1, 5, 12, 10, "none key"), "not estimable")])


def _matrix(rows: Frame, total: int, left: int, title: str) -> Markup:
    body: list[str] = []
    layers = sorted(int(x) for x in rows["layer"].unique())
    names = list(dict.fromkeys(rows["metric"]))
    controls = set(rows.loc[rows["role"] == "control", "metric"])
    width = min(130.0, (total - left - 4) / len(layers))
    written = width >= 34
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if s * width >= 16)
    for i in range(0, len(layers), step):
        body.append(svg.text(left + (i + 0.5) * width, TOP - 10, str(layers[i]), "tick", "middle"))
    body.append(svg.text(left - 8, TOP - 10, "layer", "tick", "end"))
    y = float(TOP)
    for name in names:
        if name in controls and y == TOP + ROW * (len(names) - len(controls)):
            body.append(svg.line(0, y + 6, left + width * len(layers), y + 6, "rule"))
            y += 12
        label, detail = metric_name(name)
        if total == WIDTH:
            body.append(svg.name(0, y + 17, label, detail if len(label) + len(detail) < 31 else ""))
        else:
            body.append(svg.text(0, y + 17, label, "small"))
        for row in rows[rows["metric"] == name].itertuples():
            x = left + layers.index(int(row.layer)) * width
            _matrix_cell(body, row, x, y, width, written)
        y += ROW
    y += 8
    body.append(svg.text(0, y + 15, "noise ceiling", "label" if total == WIDTH else "small"))
    above = _exceeded(rows)
    for row in rows.drop_duplicates("layer").itertuples():
        x = left + (layers.index(int(row.layer)) + 0.5) * width
        words = fixed(float(row.ceiling), 2) + ("*" if int(row.layer) in above else "")
        if width >= 26:
            kind = "muted" if written else "tiny"
            body.append(svg.text(x, y + 15, words, kind, "middle"))
        else:
            body.append(svg.rect(x - width / 2, y + 4, width - 1, 14, "panel", f"ceiling {words}"))
    return svg.document(total, y + 24, title, body)


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


def _scatter(rows: Frame, cells: Frame, metrics: Frame, name: str, outcome: str) -> Markup:
    """Small multiples by layer, every one: the metric across in ranks, the mean outcome up with its limits."""
    values = metrics[metrics["metric"] == name][["layer", "expert", "value"]]
    joined = cells[cells["rows"] > 0].merge(values, on=["layer", "expert"])
    limits = dict(zip(rows["layer"], rows["ceiling"]))
    mine = rows[rows["metric"] == name].set_index("layer")
    out = []
    for layer in sorted(int(x) for x in rows["layer"].unique()):
        part = joined[joined["layer"] == layer]
        rho = float(mine["rho"].get(layer, math.nan))
        said = f"rho {fixed(rho, 2, True)}, ceiling {fixed(float(limits.get(layer, math.nan)), 2)}"
        out.append(_square(part, layer, outcome, said))
    title = f"{_mean(outcome)} of every expert, with 95% limits, against its rank in {metric_name(name)[0]}"
    return Markup('<h3>{}</h3><div class="panels of4">{}</div>').format(title, Markup("").join(out))


def _square(part: Frame, layer: int, outcome: str, said: str) -> Markup:
    """One layer. Limits that one expert alone has so long do not set the axis: they end at it, with an arrow."""
    left, top, bottom = 40, 24, HEIGHT - 34
    body = [svg.name(0, 14, f"layer {layer}", said)]
    body.append(svg.rect(left, top, SQUARE - left - 2, bottom - top, "panel"))
    if part.empty:
        return svg.document(SQUARE, HEIGHT, f"layer {layer}: no expert was active", body)
    ends = part[[f"{outcome}_low", f"{outcome}_high", outcome]].to_numpy("float64")
    reach = 3 * float(np.nanquantile(np.nanmax(np.abs(ends), axis=1), 0.75)) or 1.0
    most = max(float(np.nanmax(np.abs(ends[:, 2]))), 1e-12)
    low = max(min(float(np.nanmin(ends)), 0.0), -max(reach, most))
    high = min(max(float(np.nanmax(ends)), 0.0), max(reach, most))
    sy = svg.linear(low, high, bottom - 4, top + 4)
    order = part["value"].astype(float).rank(method="average").to_numpy()
    sx = svg.linear(0.5, len(part) + 0.5, left + 3, SQUARE - 5)
    body.append(svg.line(left, sy(0), SQUARE - 2, sy(0), "zero"))
    marks = svg.ticks(low, high, 3)
    for tick, words in zip(marks, svg.tick_texts(marks)):
        body.append(svg.text(left - 4, sy(tick) + 3, words, "tiny", "end"))
    for rank, row in zip(order, part.itertuples()):
        mean, *limits = (float(getattr(row, f"{outcome}{end}")) for end in ("", "_low", "_high"))
        x, kind = sx(rank), outcome_name(outcome).lower()
        words = (
            f"expert {row.expert}: {significant(row.value, 3)}; {kind} {estimate(mean, *limits)}"
        )
        if all(map(math.isfinite, limits)):
            body.append(svg.line(x, sy(max(limits[0], low)), x, sy(min(limits[1], high)), "thread"))
            if limits[1] > high:
                body.append(svg.mark(x, top + 3, "up", "beyond", words, 2.2))
            if limits[0] < low:
                body.append(svg.mark(x, bottom - 3, "down", "beyond", words, 2.2))
        body.append(svg.mark(x, sy(mean), "circle", "point", words, 2.4))
    body.append(svg.text(left, bottom + 13, "lowest", "tiny"))
    body.append(svg.text(SQUARE - 2, bottom + 13, "highest value", "tiny", "end"))
    return svg.document(SQUARE, HEIGHT, f"layer {layer}: {said}", body)


def _table(frame: Frame) -> Markup:
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("role", lambda r: r["role"], text=True),
        Column("layer", lambda r: r["layer"]),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        number("experts", lambda r: count(r["n_experts"]), "n_experts"),
        Column(
            "rho [95% interval]",
            lambda r: estimate(r["rho"], r["low"], r["high"]),
            value=lambda r: r["rho"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        number("ceiling [95% interval]", ceiling, "ceiling", "ceiling_low" in frame),
        number("p adjusted", lambda r: probability(r["p_adjusted"]), "p_adjusted"),
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
