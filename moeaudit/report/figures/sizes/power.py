"""Figure: which effects this text would have shown, beside the size of interest and the effects that were seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.contrast.contrast import QUESTION
from moeaudit.stats.sizes.power import power_t

from ...pages.tables import Column, number, table
from ...words.bound import bound_words
from ...words.evidence import OUTCOMES, outcome_name
from ...words.numbers import count, percent, significant
from .. import svg
from ..figure import Figure, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 440, 250, 40, 30, 66
NEEDS = ("design_effect", "alpha_cell", "mde", "sesoi", "n", "n_documents", "d_z")
CURVES = {
    "least": ("cell known best", "p-best"),
    "median": ("median cell", "p-mid"),
    "most": ("cell known worst", "p-worst"),
}


@dataclass(frozen=True)
class Power:
    """What both faces draw of one outcome: power over effects, for the cells with the least, middle and most spread."""

    outcome: str
    effects: np.ndarray
    curves: dict[str, np.ndarray]
    sesoi: np.ndarray
    mde: np.ndarray
    seen: np.ndarray
    documents: int


def power(tests: Frame, declared: str) -> Figure | None:
    """The power of the within-token contrasts of metrics; None for tests that do not hold what it takes."""
    found = powers(tests)
    if not found:
        return None
    key = [
        svg.sign(svg.line(1, 10, 13, 10, f"curve {css}"), words) for words, css in CURVES.values()
    ]
    key.append(svg.sign(svg.rect(1, 3, 12, 14, "band key"), "size of interest, over cells"))
    key.append(svg.sign(svg.line(7, 4, 7, 16, "thread"), "effect seen, without its sign"))
    caption = Markup(
        "How often a true effect of each size would be shown by these documents, after correction over all "
        "contrasts: a curve for the cell whose d<sub>z</sub> is known best, for the median one and for the one "
        "known worst. Grey: the declared size of interest, {}, which is another d<sub>z</sub> in each cell. Where the "
        "grey lies left of the curves, an effect of that size would mostly be missed. Strokes at the bottom: the "
        "effects that were seen. Power is of showing an effect for these experts; luck over experts asks for more."
    ).format(Markup(bound_words(declared).replace("d_z", "d<sub>z</sub>")))
    return Figure(
        "power",
        "What could have been found?",
        caption,
        svg.panels([_panel(each) for each in found], svg.signs(key)),
        _table(found),
        _plot(found),
    )


def powers(tests: Frame) -> list[Power]:
    """By outcome, in the order of the page."""
    if any(name not in tests for name in NEEDS):
        return []
    rows = tests[(tests["question"] == QUESTION) & (tests["role"] == "metric")]
    numbers = rows[list(NEEDS)].astype("Float64").astype("float64").assign(outcome=rows["outcome"])
    known = numbers[numbers["mde"].notna() & (numbers["design_effect"] > 0)]
    out = []
    for outcome in sorted(dict.fromkeys(known["outcome"]), key=lambda o: [*OUTCOMES, o].index(o)):
        part = known[known["outcome"] == outcome].sort_values("mde")
        seen = part["d_z"].abs().dropna().to_numpy()
        sizes = [
            *part["sesoi"].dropna(),
            float(part["mde"].median()) * 1.6,
            float(part["mde"].iloc[0]),
        ]
        most = max(float(np.quantile([*sizes, *seen], 0.98)), float(part["mde"].median()) * 1.6)
        effects = np.linspace(0.0, most, 41)
        cells = {"least": part.iloc[0], "median": part.iloc[len(part) // 2], "most": part.iloc[-1]}
        curves = {
            name: np.array(
                [
                    power_t(
                        float(effect),
                        float(np.sqrt(cell["design_effect"] / cell["n"])),
                        float(cell["n_documents"] - 1),
                        float(cell["alpha_cell"]),
                    )
                    for effect in effects
                ]
            )
            for name, cell in cells.items()
        }
        sesoi, mde = part["sesoi"].dropna().to_numpy(), part["mde"].to_numpy()
        documents = int(part["n_documents"].max())
        out.append(Power(str(outcome), effects, curves, sesoi, mde, seen, documents))
    return out


def _panel(found: Power) -> Markup:
    body = [svg.name(0, 14, outcome_name(found.outcome), f"{found.documents} documents")]
    right, bottom, most = WIDTH - 6, HEIGHT - BOTTOM, float(found.effects[-1])
    x, y = svg.linear(0, most, LEFT, right), svg.linear(0, 1, bottom, TOP)
    if len(found.sesoi):
        low, high = (min(float(v), most) for v in (found.sesoi.min(), found.sesoi.max()))
        words = f"size of interest: d_z {significant(low, 2)} to {significant(high, 2)}"
        body.append(svg.rect(x(low), TOP, max(x(high) - x(low), 1.5), bottom - TOP, "band", words))
    for tick in (0, 0.25, 0.5, 0.8, 1):
        body.append(svg.line(LEFT, y(tick), right, y(tick), "grid" if tick else "zero"))
        body.append(svg.text(LEFT - 5, y(tick) + 4, percent(tick, 0), "tick", "end"))
    marks = svg.ticks(0, most, 5)
    for tick, words in zip(marks, svg.tick_texts(marks)):
        body.append(svg.text(x(tick), bottom + 30, words, "tick", "middle"))
    for name, (_, css) in CURVES.items():
        points = [(x(a), y(b)) for a, b in zip(found.effects, found.curves[name])]
        body.append(svg.path(points, f"curve {css}"))
    beyond = int((found.seen > most).sum())
    for value in found.seen[found.seen <= most]:
        body.append(svg.line(x(value), bottom + 4, x(value), bottom + 14, "thread"))
    said = "true effect, d_z (and what was seen)"
    if beyond:
        said += f"; {count(beyond)} seen beyond the axis"
    body.append(svg.text((LEFT + right) / 2, bottom + 48, said, "muted", "middle"))
    return svg.document(
        WIDTH, HEIGHT - 6, f"{outcome_name(found.outcome)}: power by size of effect", body
    )


def _table(found: list[Power]) -> Markup:
    rows = []
    for each in found:
        row = {"outcome": each.outcome, "documents": each.documents, "cells": len(each.mde)}
        for name, values in (("mde", each.mde), ("sesoi", each.sesoi)):
            row |= {f"{name}_{end}": _end(values, end) for end in ("", "low", "high")}
        rows.append(row)
    columns = [
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        number("documents", lambda r: count(r["documents"]), "documents"),
        number("contrasts", lambda r: count(r["cells"]), "cells"),
        *_ends("mde", "found with 80% power from d_z"),
        *_ends("sesoi", "size of interest as d_z"),
    ]
    return table(rows, columns, "What could have been found, over the contrasts of each outcome")


def _ends(name: str, words: str) -> list[Column]:
    ends = {"low": "least", "": "median", "high": "most"}
    return [
        number(
            f"{words}, {which}", lambda r, n=f"{name}_{end}": significant(r[n], 2), f"{name}_{end}"
        )
        for end, which in ends.items()
    ]


def _end(values: np.ndarray, end: str) -> float:
    if not len(values):
        return float("nan")
    return float({"": np.median, "low": np.min, "high": np.max}[end](values))


def _plot(found: list[Power]) -> go.Figure:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    plot = make_subplots(
        rows=1, cols=len(found), subplot_titles=[outcome_name(each.outcome) for each in found]
    )
    looks = {
        "least": ("#3f1f73", "dot"),
        "median": ("#3f1f73", "solid"),
        "most": ("#3f1f73", "dash"),
    }
    for i, each in enumerate(found, start=1):
        for name, (words, _) in CURVES.items():
            colour, dash = looks[name]
            plot.add_trace(
                go.Scatter(
                    x=each.effects.round(5),
                    y=each.curves[name].round(4),
                    mode="lines",
                    name=words,
                    legendgroup=words,
                    showlegend=i == 1,
                    line={"color": colour, "dash": dash},
                    hovertemplate=f"{words}: a true d_z of %{{x:.3f}}<br>is shown %{{y:.0%}} of the time, with "
                    f"{each.documents} documents<extra></extra>",
                ),
                row=1,
                col=i,
            )
        plot.add_trace(
            go.Scatter(
                x=each.seen.round(5),
                y=np.full(len(each.seen), -0.05),
                mode="markers",
                name="effect seen",
                legendgroup="seen",
                showlegend=i == 1,
                marker={"symbol": "line-ns-open", "size": 9, "color": "#7154a5"},
                hovertemplate="seen: d_z of size %{x:.3f}<extra></extra>",
            ),
            row=1,
            col=i,
        )
        if len(each.sesoi):
            ends = float(each.sesoi.min()), float(each.sesoi.max())
            plot.add_vrect(
                *ends, fillcolor="rgba(120,120,120,0.25)", line_width=0, layer="below", row=1, col=i
            )
    plot.update_xaxes(title="true effect, d_z; grey: the size of interest", rangemode="tozero")
    plot.update_yaxes(tickformat=".0%", range=[-0.09, 1.03], title="shown how often")
    return styled(plot, 420)
