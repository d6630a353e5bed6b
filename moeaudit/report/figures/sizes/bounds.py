"""Figure: how many contrasts would get which verdict, were another size declared to be of interest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats import Bound
from moeaudit.stats.sensitivity import KEYS
from moeaudit.stats.sizes.equivalence import INCONCLUSIVE

from ...pages.tables import Column, folded, rows_of, table
from ...words.bound import UNITS, bound_words, short_bound
from ...words.evidence import outcome_name
from ...words.numbers import significant
from .. import svg
from ..figure import Figure, styled
from ..palette import VERDICTS
from ..parts.grid import over_grid

WIDTH, LEFT, ROW, TOP = 440, 60, 20, 22


def bounds(tests: Frame, declared: str) -> Figure:
    """`tests` of a run; `declared` is the bound that its verdicts were made with."""
    grid = over_grid(tests, declared)
    chosen = Bound.parse(declared)
    found = grid.counts()
    words = [v for v in VERDICTS if v in found and found[v].sum()]
    words += [v for v in found if v not in (*KEYS, "declared", *words) and found[v].sum()]
    outcomes = grid.outcomes
    drawn = [_panel(found[found["outcome"] == o], o, words) for o in outcomes]
    key = [svg.sign(svg.rect(1, 4, 12, 12, _class(word)), word) for word in words]
    key.append(svg.sign(svg.rect(1, 4, 12, 12, "chosen key"), "declared"))
    caption = Markup(
        "Each bar holds all contrasts of a metric in a layer. The verdicts were declared with {}; the other "
        "bars show what the same effects, intervals and p-values would be called, had another size been declared. "
        "A larger bound turns findings into <em>present but below</em> and shows more to be absent; a smaller one "
        "leaves more undecided. What is present stays present under every bound. A bound in nats or as a share is "
        "another d<sub>z</sub> in every cell."
    ).format(Markup(bound_words(chosen).replace("d_z", "d<sub>z</sub>")))
    return Figure(
        "bounds",
        "How far does it hang on the size of interest?",
        caption,
        svg.panels(drawn, svg.signs(key)),
        folded("The counts as a table", _table(found, words)),
        _plot(found, words, outcomes),
        grid.data([*VERDICTS, *(w for w in words if w not in VERDICTS)]),
    )


def _panel(found: Frame, outcome: str, words: list[str]) -> Markup:
    """One outcome: a bar a bound, under the unit that it is in."""
    body = [svg.text(0, 14, outcome_name(outcome), "title")]
    y, width = float(TOP), WIDTH - LEFT - 4
    for unit, part in found.groupby("unit", sort=False):
        body.append(svg.text(0, y + 14, UNITS[str(unit)], "muted"))
        y += ROW
        for row in part.to_dict("records"):
            label = short_bound(row["sesoi"])
            kind = "label" if row["declared"] else "tick"
            body.append(svg.text(LEFT - 8, y + 14, label, kind, "end"))
            _bar(body, row, words, LEFT, y, width)
            y += ROW
        y += 6
    return svg.document(
        WIDTH, y, f"{outcome_name(outcome)}: verdicts by smallest effect of interest", body
    )


def _bar(
    body: list[str],
    row: Mapping[Any, Any],
    words: list[str],
    x: svg.Number,
    y: svg.Number,
    width: svg.Number,
) -> None:
    for word in words:
        n = int(row[word])
        if not n:
            continue
        css, size = _class(word), width * n / int(row["cells"])
        title = f"{outcome_name(row['outcome'])}, {bound_words(row['sesoi'])}: {n} {word}"
        body.append(svg.rect(x, y + 2, size, ROW - 4, css, title))
        if size > 9 + 6 * len(str(n)):
            body.append(svg.text(x + size / 2, y + 14.5, n, f"n-{css}", "middle"))
        x += size
    if row["declared"]:
        body.append(svg.rect(x - width, y + 2, width, ROW - 4, "chosen"))


def _class(word: str) -> str:
    return VERDICTS.get(word, VERDICTS[INCONCLUSIVE])[1].replace("v-", "b-")


def _table(found: Frame, words: list[str]) -> Markup:
    columns = [
        Column("smallest effect of interest", lambda r: bound_words(r["sesoi"]), text=True),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        Column("in d_z (median cell)", lambda r: significant(r["d_z"], 2)),
        *(Column(word, lambda r, word=word: r[word]) for word in words),
        Column("which", lambda r: "declared" if r["declared"] else "another", text=True),
    ]
    return table(
        rows_of(found),
        columns,
        "Metric contrasts by verdict, for a grid of smallest effects of interest",
        [
            "Tests of equivalence are done again at each bound, with the same limits, and corrected again over "
            "the family; tests of presence do not depend on it."
        ],
    )


def _plot(found: Frame, words: list[str], outcomes: list[str]):
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    plot = make_subplots(
        rows=1, cols=len(outcomes), subplot_titles=[outcome_name(o) for o in outcomes]
    )
    for word in words:
        for column, outcome in enumerate(outcomes, start=1):
            rows = found[found["outcome"] == outcome].iloc[::-1]
            plot.add_trace(
                go.Bar(
                    y=[_place(b) for b in rows["sesoi"]],
                    x=rows[word],
                    orientation="h",
                    name=word,
                    legendgroup=word,
                    showlegend=column == 1,
                    marker={"color": VERDICTS.get(word, VERDICTS[INCONCLUSIVE])[2]},
                    customdata=rows[["cells", "d_z"]].to_numpy(),
                    hovertemplate="%{y}<br>%{x} of %{customdata[0]:d} contrasts: "
                    + word
                    + "<br>this size is d_z %{customdata[1]:.3f} in the median cell<extra></extra>",
                ),
                row=1,
                col=column,
            )
    plot.update_layout(barmode="stack")
    plot.update_yaxes(automargin=True)
    plot.update_xaxes(title="contrasts", automargin=True, nticks=6)
    return styled(plot, 560)


def _place(bound: str) -> str:
    """Short, since it stands at an axis on a phone too."""
    return bound_words(bound).replace(" of the layer's mean", " of mean")
