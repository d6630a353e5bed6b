"""Figure: the strongest metric of each question, domain by domain, and where a new domain would lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from moeaudit.frames import Column as Series
from moeaudit.frames import Frame

from ..pages.tables import Column, folded, rows_of, table
from ..words.evidence import metric_name, outcome_name
from ..words.numbers import count, estimate, fixed, interval
from ..words.where import ACROSS, QUESTIONS, SIZE, WITHIN, rows, strongest, told
from . import svg
from .figure import Figure, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moeaudit.runs.run import StoredRun

WIDTH, LEFT, ROW, TOP = 440, 104, 21, 44


def where(run: StoredRun) -> Figure | None:
    """The forest of domains and the tables; None where domains cannot be compared."""
    cells = told(run)
    if cells is None or cells["reason"].notna().all():
        return None
    outcome = str(cells["outcome"].iloc[0])
    found = [(q, strongest(cells, q, outcome)) for q in (WITHIN, ACROSS)]
    drawn = [(q, cell) for q, cell in found if cell is not None]
    domains = run.domains.assign(other=False)
    if run.shift is not None:
        domains = _joined(domains, run.shift.domains.assign(other=True))
    name = outcome_name(outcome).lower()
    caption = Markup(
        "The metric and layer with the largest estimate of each question ({}), chosen afterwards: an illustration. "
        "Points are domains with 95% limits by document; diamonds are domains that the audit's own text does not "
        "have. The dashed line is the mean over the audit's own domains, the band where a new domain "
        "of their kind lies (95%; Higgins, Thompson and Spiegelhalter 2009). Squares: the least and the largest that "
        "is left when one of the audit's own domains is left out."
    ).format(name)
    title = "Where it holds"
    drawing = svg.panels([_panel(domains, q, cell) for q, cell in drawn], _key())
    parts = [_of(domains, cell) for _, cell in drawn]
    tables = _tables(cells, parts, run.spec.alpha)
    return Figure("where", title, caption, drawing, tables, _plot(drawn, parts))


def _joined(one: Frame, two: Frame) -> Frame:
    import pandas as pd

    return pd.concat([one, two], ignore_index=True)


def _of(domains: Frame, cell: Series) -> Frame:
    """The domains of a cell, the audit's own first."""
    for key in ("question", "outcome", "metric", "layer"):
        domains = domains[domains[key] == cell[key]]
    plain = domains.astype({c: "float64" for c in ("estimate", "low", "high")})
    return plain.sort_values("other", kind="stable")


def _key() -> Markup:
    bar = svg.line(1, 10, 13, 10, "bar v-pred key")
    other = svg.line(1, 10, 13, 10, "bar v-open key")
    return svg.signs(
        [
            svg.sign(bar + svg.mark(7, 10, "circle", "v-pred key"), "domain of the audit, 95%"),
            svg.sign(other + svg.mark(7, 10, "diamond", "v-open"), "other domain"),
            svg.sign(svg.rect(1, 5, 12, 10, "band key"), "where a new domain lies, 95%"),
            svg.sign(svg.line(7, 3, 7, 17, "mean"), "mean over domains"),
            svg.sign(svg.mark(7, 10, "square", "v-open"), "least and largest with one left out"),
        ]
    )


def _panel(domains: Frame, question: str, cell: Series) -> Markup:
    """One forest."""
    body: list[str] = []
    x0, width = LEFT, WIDTH - LEFT - 4
    mine = _of(domains, cell)
    new = [float(cell[c]) for c in ("new_low", "new_high")]
    ends = mine[["low", "high"]].to_numpy(dtype="float64", na_value=np.nan)
    without = left_out(cell)
    rest = [] if without is None else without[:2]
    known = np.concatenate([ends[np.isfinite(ends)], new, rest, [0.0]])
    pad = 0.04 * (known.max() - known.min())
    scale = svg.linear(float(known.min() - pad), float(known.max() + pad), x0, x0 + width)
    bottom = float(TOP + ROW * (len(mine) + (without is not None)))
    title = f"{metric_name(str(cell['metric']))[0]}, layer {cell['layer']}, {QUESTIONS[question]}"
    body.append(svg.text(0, 14, title, "title"))
    said = f"new domain {interval(new[0], new[1])}"
    body.append(svg.text(0, 31, f"{SIZE[question]}; {said}", "muted"))
    body.append(svg.rect(x0, TOP, width, bottom - TOP, "panel"))
    body.append(
        svg.rect(scale(new[0]), TOP, scale(new[1]) - scale(new[0]), bottom - TOP, "band", said)
    )
    mean = scale(float(cell["mean"]))
    body.append(svg.line(mean, TOP, mean, bottom, "mean"))
    body.append(svg.line(scale(0), TOP, scale(0), bottom, "zero"))
    for i, row in enumerate(mine.itertuples()):
        _domain(body, row, x0, TOP + (i + 0.5) * ROW, scale)
    if without is not None:
        y, (low, high, said) = bottom - 0.5 * ROW, without
        body.append(svg.text(0, y + 4, "one left out", "tick"))
        body.append(svg.line(scale(low), y, scale(high), y, "bar v-open"))
        body += [svg.mark(scale(at), y, "square", "v-open", said, 3.0) for at in (low, high)]
    marks = svg.ticks(float(known.min()), float(known.max()), 5)
    for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
        body.append(svg.text(scale(tick), bottom + 15, words, "tiny", "middle"))
    return svg.document(WIDTH, bottom + 22, f"{title}: by domain", body)


def left_out(cell: Series) -> tuple[float, float, str] | None:
    """The least and the largest size with one of the audit's own domains left out, and which that is, in words."""
    low, high = (float(cell[name]) for name in ("without_least", "without_most"))
    if not np.isfinite([low, high]).all():
        return None
    said = (
        f"all documents but those of one domain: {fixed(low, 2, True)} without {cell['without_least_domain']}, "
        f"{fixed(high, 2, True)} without {cell['without_most_domain']}"
    )
    return low, high, said


def _domain(body: list[str], row, x0: svg.Number, y: float, scale: svg.Scale) -> None:
    body.append(svg.text(0, y + 4, row.domain, "tick" if row.other else ""))
    value = float("nan") if isinstance(row.reason, str) else float(row.estimate)
    if not np.isfinite(value):
        body.append(svg.mark(x0 + 6, y, "circle", "v-none", f"{row.domain}: {row.reason}", 2.4))
        return
    low, high = float(row.low), float(row.high)
    css = "v-open" if row.other else "v-pred"
    words = f"{row.domain}: {estimate(value, low, high)}, {row.n_documents} documents"
    body.append(svg.line(scale(low), y, scale(high), y, f"bar {css}"))
    body.append(svg.mark(scale(value), y, "diamond" if row.other else "circle", css, words, 3.4))


def _plot(drawn: list[tuple[str, Series]], parts: list[Frame]) -> go.Figure:
    """The same forests: estimates with limits, the mean over domains, and the band of a new one."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [
        f"{metric_name(str(cell['metric']))[0]}, layer {cell['layer']}, {QUESTIONS[question]}"
        for question, cell in drawn
    ]
    plot = make_subplots(rows=1, cols=len(drawn), subplot_titles=titles, shared_yaxes=True)
    for column, ((question, cell), part) in enumerate(zip(drawn, parts), start=1):
        for other, name in ((False, "domain of the audit"), (True, "other domain")):
            mine = part[part["other"] == other]
            if mine.empty:
                continue
            value, low, high = (mine[c].to_numpy(float) for c in ("estimate", "low", "high"))
            plot.add_trace(
                go.Scatter(
                    x=value.round(4),
                    y=mine["domain"].astype(str),
                    error_x={
                        "type": "data",
                        "array": (high - value).round(4),
                        "arrayminus": (value - low).round(4),
                        "thickness": 1,
                    },
                    mode="markers",
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    marker={
                        "symbol": "diamond" if other else "circle",
                        "color": "#8a8a8a" if other else "#c4500a",
                        "size": 9,
                    },
                    customdata=mine["n_documents"].astype(int),
                    hovertemplate="%{y}: %{x:+.3f}<br>%{customdata} documents",
                ),
                row=1,
                col=column,
            )
        without = left_out(cell)
        if without is not None:
            plot.add_trace(
                go.Scatter(
                    x=np.round(without[:2], 4),
                    y=["one left out"] * 2,
                    mode="lines+markers",
                    name="least and largest with one left out",
                    legendgroup="without",
                    showlegend=column == 1,
                    marker={"symbol": "square", "color": "#6b6b6b", "size": 7},
                    line={"color": "#6b6b6b", "width": 1},
                    hovertemplate=f"%{{x:+.3f}}<br>{escape(without[2])}<extra></extra>",
                ),
                row=1,
                col=column,
            )
        new = [float(cell[c]) for c in ("new_low", "new_high")]
        at: Any = {"row": 1, "col": column}
        plot.add_vrect(
            x0=new[0],
            x1=new[1],
            fillcolor="#8a8a8a",
            opacity=0.15,
            line_width=0,
            layer="below",
            **at,
        )
        plot.add_vline(float(cell["mean"]), line_dash="dash", line_width=1, **at)
        plot.update_xaxes(title=SIZE[question], row=1, col=column)
    plot.update_yaxes(autorange="reversed", automargin=True)
    return styled(plot, 186 + 26 * max(len(part) for part in parts))


def _tables(cells: Frame, drawn: list[Frame], alpha: float | int) -> Markup:
    """One row a metric and question: the first outcome open, the others folded, the figure's domains behind."""
    out = []
    for i, outcome in enumerate(dict.fromkeys(cells["outcome"])):
        name = outcome_name(str(outcome)).lower()
        one = _table(rows(cells, str(outcome), alpha), name)
        out.append(one if i == 0 else folded(f"The same for {name}", one))
    return Markup("").join([*out, folded("The figure as a table", _drawn(drawn))])


def _table(found: list[dict], name: str) -> Markup:
    of = lambda key: lambda r: f"{r[key]} of {r['layers']}"  # noqa: E731
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("question", lambda r: r["question"], text=True),
        Column("shown in the mixture", of("shown")),
        Column("domains differ (Holm)", of("differ")),
        Column("over domains", lambda r: _span(r["least"], r["most"])),
        Column("sign settled for a new domain", of("new")),
        Column("median", lambda r: fixed(r["median"], 2, True)),
    ]
    if any(r["held"] is not None for r in found):
        columns += [
            Column("in other domains", lambda r: fixed(r["there"], 2, True)),
            Column(
                "shown there, same sign",
                lambda r: "–" if r["held"] is None else f"{r['held']} of {r['shown']}",
            ),
        ]
    return table(
        found,
        columns,
        f"Where it holds, {name}: layers, and medians over layers",
        [
            "Within a token the size is d_z, across experts the rank correlation. Domains differ: Welch's test of "
            "Cochran's Q, corrected over metrics and layers. Over domains: the least and the largest estimate of "
            "any domain and layer.",
        ],
    )


def _span(low: float, high: float) -> str:
    return "\N{EN DASH}" if np.isnan(low) else f"{fixed(low, 2, True)} to {fixed(high, 2, True)}"


def _drawn(parts: list[Frame]) -> Markup:
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("question", lambda r: QUESTIONS[r["question"]], text=True),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        Column("layer", lambda r: r["layer"]),
        Column("domain", lambda r: r["domain"], text=True),
        Column("documents", lambda r: count(r["n_documents"])),
        Column(
            "estimate [95% limits]",
            lambda r: r["reason"] or estimate(r["estimate"], r["low"], r["high"]),
        ),
    ]
    rows = [row for part in parts for row in rows_of(part)]
    return table(
        rows,
        columns,
        "The strongest metric of each question by domain",
        ["Every metric, layer and domain is in domains.parquet and shift/domains.parquet."],
    )
