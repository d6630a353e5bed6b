"""Figure: how many contrasts would get which verdict, were another size declared to be of interest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats import Bound, verdicts_over
from moeaudit.stats.sensitivity import GRID, KEYS
from moeaudit.stats.sizes.equivalence import INCONCLUSIVE

from ..pages.tables import Column, folded, rows_of, table
from ..words.bound import UNITS, bound_words, short_bound
from ..words.evidence import OUTCOMES, outcome_name
from ..words.numbers import significant
from . import svg
from .figure import Figure, styled
from .palette import VERDICTS

WIDTH, LEFT, ROW, GAP, TOP = 980, 120, 21, 34, 66


def bounds(tests: Frame, declared: str) -> Figure:
    """`tests` of a run; `declared` is the bound that its verdicts were made with."""
    chosen = Bound.parse(declared)
    grid = {str(Bound.parse(g)): Bound.parse(g) for g in GRID} | {str(chosen): chosen}
    order = {unit: i for i, unit in enumerate(UNITS)}
    grid = sorted(grid.values(), key=lambda b: (order[b.unit], b.value))
    found = verdicts_over(tests, grid)
    found["declared"] = found["sesoi"] == str(chosen)
    outcomes = sorted(
        dict.fromkeys(found["outcome"]),
        key=lambda o: [*OUTCOMES, *found["outcome"]].index(o),
    )
    words = [v for v in (*VERDICTS, *found.columns) if v in found and v not in (*KEYS, "declared")]
    words = list(dict.fromkeys(words))
    body: list[str] = []
    panel = (WIDTH - LEFT - GAP * (len(outcomes) - 1) - 12) / len(outcomes)
    for i, outcome in enumerate(outcomes):
        body.append(svg.text(LEFT + i * (panel + GAP), TOP - 18, outcome_name(outcome), "title"))
    y = TOP
    for unit in dict.fromkeys(b.unit for b in grid):
        body.append(svg.text(0, y + 12, UNITS[unit], "muted"))
        y += ROW
        for bound in [b for b in grid if b.unit == unit]:
            mine = found[found["sesoi"] == str(bound)]
            kind = "label" if str(bound) == str(chosen) else "tick"
            label = short_bound(bound) + (" (declared)" if str(bound) == str(chosen) else "")
            body.append(svg.text(LEFT - 10, y + 14, label, kind, "end"))
            for row in mine.to_dict("records"):
                x = LEFT + outcomes.index(row["outcome"]) * (panel + GAP)
                _bar(body, row, words, x, y, panel)
            y += ROW
        y += 8
    _key(body, words)
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
        svg.document(WIDTH, y + 6, "Verdicts by smallest effect of interest", body, 720),
        folded("The counts as a table", _table(found, words)),
        _plot(found, words, outcomes),
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


def _key(body: list[str], words: list[str]) -> None:
    x = 0.0
    for word in words:
        body.append(svg.rect(x, 8, 12, 12, _class(word)))
        body.append(svg.text(x + 17, 18, word, "tick"))
        x += 36 + 6.2 * len(word)


def _table(found: Frame, words: list[str]) -> Markup:
    columns = [
        Column("smallest effect of interest", lambda r: bound_words(r["sesoi"]), text=True),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        Column("in d_z (median cell)", lambda r: significant(r["d_z"], 2)),
        *(Column(word, lambda r, word=word: r[word]) for word in words),
        Column("", lambda r: "declared" if r["declared"] else "", text=True),
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
                    y=[bound_words(b) for b in rows["sesoi"]],
                    x=rows[word],
                    orientation="h",
                    name=word,
                    legendgroup=word,
                    showlegend=column == 1,
                    marker={"color": VERDICTS.get(word, VERDICTS[INCONCLUSIVE])[2]},
                    hovertemplate="%{y}: %{x}<br>" + word,
                ),
                row=1,
                col=column,
            )
    plot.update_layout(barmode="stack")
    plot.update_xaxes(title="contrasts")
    plot.update_yaxes(automargin=True)
    return styled(plot, 520)
