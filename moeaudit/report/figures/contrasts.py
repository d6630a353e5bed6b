"""Figure: how far each routing metric orders a token's active experts by effect, layer by layer."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame

from ..pages.tables import Column, folded, number, rows_of, table
from ..plot.verdict_points import face, order_of
from ..words.evidence import ROLES, Evidence, metric_name, outcome_name, outcome_words
from ..words.numbers import count, estimate, percent, plural, probability
from ..words.operator import OperatorWords
from . import svg
from .figure import Figure
from .parts.intervals import clipped, key, panel


def contrasts(evidence: Evidence, said: OperatorWords) -> Figure:
    """`evidence.contrasts` as a panel an outcome, rows of metrics, one point a layer."""
    frame = evidence.contrasts
    names, outcomes = order_of(frame)
    caption = Markup(
        "Within each token, the active expert with the highest value of the metric is compared with "
        "the one with the lowest: d<sub>z</sub> is the mean difference of their effects over its "
        "standard deviation across tokens. Lines with caps are 95% intervals over documents. "
        "Above zero: a high value goes with a larger effect. {} {} The controls below the rule are what "
        "nothing, the router itself and a causal score from other documents achieve on the same "
        "tokens.{}"
    ).format(_band_words(evidence), _luck_words(frame), beyond_words(frame))
    return Figure(
        "contrasts",
        "Do routing metrics predict the effect?",
        caption,
        drawn(frame, names, outcomes, said),
        folded("Every contrast as a table", _table(frame)),
        face(frame, names, outcomes),
    )


def drawn(frame: Frame, names: list[str], outcomes: list[str], said: OperatorWords) -> Markup:
    """The panels of all outcomes below one key."""
    parts = [(frame[frame["outcome"] == o], outcome_words(o, said.cost)) for o in outcomes]
    return svg.panels([panel(part, names, words) for part, words in parts], key(frame))


def beyond_words(frame: Frame) -> str:
    """How many points or limits an axis cuts; empty for none."""
    n = clipped(frame)
    if not n:
        return ""
    return (
        f" {plural(n, 'point or interval reaches', 'points or intervals reach')} beyond the axis, which one wild "
        "cell shall not set; arrows mark them, and the table has their numbers."
    )


def _band_words(evidence: Evidence) -> Markup:
    band = evidence.contrasts["sesoi"].dropna()
    if band.empty:
        return Markup("")
    words = Markup("The grey band is the declared zone of no interest, less than {}{}.")
    each = "" if band.nunique() == 1 else ", in each cell's own d_z"
    name = Markup("d<sub>z</sub>")
    bound, each = (Markup(text.replace("d_z", name)) for text in (evidence.bound, each))
    return words.format(bound, each)


def _luck_words(frame: Frame) -> Markup:
    if "null_high" not in frame or frame["null_high"].isna().all():
        return Markup("")
    return Markup(
        "The dashed boxes hold 95% of what luck over experts gives: the metric's own numbers dealt to "
        "the layer's experts at random."
    )


def _table(frame: Frame) -> Markup:
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("role", lambda r: ROLES[r["role"]], text=True),
        Column("layer", lambda r: r["layer"]),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        number("tokens", lambda r: count(r["n"]), "n"),
        number("documents", lambda r: count(r["documents"]), "documents"),
        Column(
            "d_z [95% interval]",
            lambda r: estimate(r["d_z"], r["low"], r["high"]),
            value=lambda r: r["d_z"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        *_robust(frame),
        number("p", lambda r: probability(r["p"]), "p"),
        number("p adjusted", lambda r: probability(r["p_adjusted"]), "p_adjusted"),
        Column("p over experts", lambda r: probability(r.get("p_experts", np.nan))),
        Column("adjusted", lambda r: probability(r.get("p_experts_maxt", np.nan))),
        Column("verdict", lambda r: r["verdict"] or "", text=True, mark="verdict"),
        Column("speaks of", lambda r: r.get("supports") or "", text=True),
    ]
    return table(
        rows_of(frame),
        columns,
        "Within-token contrast of the highest- and lowest-metric active expert",
        [
            "p is the test of no difference over documents, for these experts; p over experts the share "
            "of deals of the metric to other experts with as large a difference; both adjusted for all "
            "metric contrasts of the same outcome. Domains like these: of its sign, not of its size.",
            *_robust_note(frame),
        ],
    )


def _robust(frame: Frame) -> list[Column]:
    """Sizes that a few tokens do not decide, and how much of the variance those tokens carry."""
    sizes = (
        ("winsorised d_z [95% interval]", "winsorised_d_z"),
        ("rank-biserial", "rank_biserial"),
    )
    columns = [
        number(title, lambda r, n=name: estimate(r[n], r[f"{n}_low"], r[f"{n}_high"]), name, True)
        for title, name in sizes
        if name in frame and frame[name].notna().any()
    ]
    share = Column("largest 1% carry", lambda r: percent(r["top_share"], 0))
    return [*columns, share] if columns else []


def _robust_note(frame: Frame) -> list[str]:
    if not _robust(frame):
        return []
    return [
        "Winsorised: the lowest and the highest 5% of the differences are drawn in to the next value. "
        "Rank-biserial: do differences tend to be positive, whatever their size. Largest 1% carry: of the "
        "variance that d_z divides by, the share of the largest 1% of tokens (8% if it were normal)."
    ]
