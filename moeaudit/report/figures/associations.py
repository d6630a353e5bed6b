"""Figure: across the experts of a layer, does a metric rank them by the harm of editing them?"""

from __future__ import annotations

import math

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import SHOWN

from ..pages.tables import Column, folded, number, rows_of, table
from ..words.evidence import metric_name, outcome_name
from ..words.largest import ceiling, exceeded
from ..words.numbers import count, estimate, fixed, probability
from ..words.operator import OperatorWords
from . import palette, svg
from .figure import Figure
from .parts.experts import face, points, squares

WIDTH, LEFT, ROW, TOP = 1080, 208, 27, 30
NARROW, LEFT_NARROW = 400, 118


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
        drawing += squares(
            rows, points(cells, metrics, best, outcome), best, outcome, _mean(outcome)
        )
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
    known = [n for n in dict.fromkeys(rows["metric"]) if (metrics["metric"] == n).any()]
    shown = {n: points(cells, metrics, n, outcome) for n in known if outcome in DRAWN}
    unit = "" if outcome == "flip" else " nats"
    return Figure(
        "associations",
        f"{asks}{name.capitalize()} per expert against each metric",
        caption,
        Markup("{}{}").format(_key(), drawing),
        folded("Every correlation as a table", _table(harm)),
        face(shown, best or next(iter(shown)), _mean(outcome), said, unit) if shown else None,
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
