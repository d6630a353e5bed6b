"""The verdicts at a glance: a strip of one square per contrast, and a table of one row per metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_ESTIMABLE,
    OPEN,
    PREDICTIVE,
    REVERSED,
    TOO_FEW,
)

from ..figures import svg
from ..figures.palette import VERDICTS
from ..pages.tables import Column, table
from .answer import verdict_table
from .evidence import Evidence, metric_name, outcome_name
from .numbers import estimate

# verdict: (sign, its class, letter where a terminal has no such sign)
SIGNS = {
    PREDICTIVE: ("\N{BLACK UP-POINTING TRIANGLE}", "predictive", "P"),
    REVERSED: ("\N{BLACK DOWN-POINTING TRIANGLE}", "reversed", "R"),
    OPEN: ("\N{WHITE DIAMOND}", "size", "S"),
    BELOW: ("\N{WHITE SQUARE}", "below", "B"),
    EQUIVALENT: ("\N{BLACK SQUARE}", "equivalent", "N"),
    INCONCLUSIVE: ("\N{WHITE CIRCLE}", "inconclusive", "?"),
    TOO_FEW: ("\N{DOTTED CIRCLE}", "few", "F"),
    NOT_ESTIMABLE: ("\N{EN DASH}", "not", "-"),
}
WIDTH = 340.0


def strip(evidence: Evidence) -> Markup:
    """One mark per metric contrast, sorted by verdict, a panel for harm and one for disturbance."""
    drawn = []
    for outcome in [o for o in evidence.outcomes if evidence.count(o)]:
        title = outcome_name(outcome)
        verdicts = evidence.metrics(outcome)["verdict"].fillna(NOT_ESTIMABLE)
        ordered = [v for v in VERDICTS for _ in range(int((verdicts == v).sum()))]
        step = 14.0 if len(ordered) <= 200 else 9.0
        per_row = int(WIDTH // step)
        body = [svg.text(0, 13, title, "label")]
        for i, verdict in enumerate(ordered):
            shape, css, _ = VERDICTS[verdict]
            x, y = (i % per_row + 0.5) * step, 30 + i // per_row * step
            body.append(svg.mark(x, y, shape, css, verdict, step / 3.4))
        height = 30 + step * (1 + (max(len(ordered), 1) - 1) // per_row)
        said = f"{title}, one mark per metric and layer: {(verdicts == PREDICTIVE).sum()} of {len(ordered)} predictive"
        drawn.append(svg.document(WIDTH, height, said, body))
    kinds = evidence.contrasts.loc[evidence.contrasts["role"] == "metric", "verdict"]
    key = [
        svg.sign(svg.mark(7, 10, shape, css), verdict)
        for verdict, (shape, css, _) in VERDICTS.items()
        if (kinds == verdict).any()
    ]
    return svg.panels(drawn, svg.signs(key))


def verdicts(evidence: Evidence) -> Markup:
    """One row per metric and control: how many layers got each verdict, and its largest d_z."""
    columns = [Column("metric", _stub, text=True)]
    for outcome in evidence.outcomes:
        if evidence.count(outcome):
            columns += [_told(outcome), _best(outcome)]
    key = Markup(" ").join(
        Markup('<span class="v v-{}"><i>{}</i> {}</span>').format(css, sign, verdict)
        for verdict, (sign, css, _) in SIGNS.items()
    )
    return Markup('<p class="key">Number of layers: {}</p>').format(key) + table(
        verdict_table(evidence),
        columns,
        "Does the active expert with the higher metric matter more?",
        [
            "Each layer is one contrast; p-values are adjusted for all metrics and layers of the "
            "outcome, over documents and over experts. Each control is a family of its own.",
            Markup(
                "Largest: the contrast with the largest |{}| with its 95% interval, picked for its luck as "
                "well; after the semicolon, what the largest layer of one half of the documents shows in "
                "the other half, on average."
            ).format(symbols("d_z")),
        ],
    )


def symbols(text: str) -> Markup:
    """Escaped text with the effect size's name set as a symbol."""
    return Markup(str(escape(text)).replace("d_z", "<i>d</i><sub>z</sub>"))


def _stub(row: Mapping[str, Any]) -> str:
    name, _ = metric_name(row["metric"])
    return f"{name} (control)" if row["role"] == "control" else name


def _told(outcome: str) -> Column:
    def write(row: Mapping[str, Any]) -> Markup:
        counts = row[outcome]["verdicts"]
        return Markup("").join(
            Markup('<span class="v v-{}" aria-label="{} {}">{} <i>{}</i></span>').format(
                css, counts[verdict], verdict, counts[verdict], sign
            )
            for verdict, (sign, css, _) in SIGNS.items()
            if counts.get(verdict)
        )

    return Column(outcome_name(outcome).lower(), write, text=True, mark="told")


def _best(outcome: str) -> Column:
    def write(row: Mapping[str, Any]) -> str:
        found = row[outcome]["best"]
        if found is None:
            return "\N{EN DASH}"
        size = estimate(found["d_z"], found["low"], found["high"])
        other = found.get("held_out")
        return f"{size} in {found['layer']}{f'; {other}' if other else ''}"

    return Column("largest, in layer", write)
