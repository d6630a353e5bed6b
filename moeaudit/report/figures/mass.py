"""Figure: a metric's highest expert of a token against another that the router gives nearly the same weight."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import SHOWN, TOO_FEW

from ..pages.tables import Column, folded, rows_of, table
from ..plot.verdict_points import face
from ..words.evidence import OUTCOMES, ROLES, metric_name, outcome_name
from ..words.numbers import count, estimate, percent, probability
from ..words.operator import OperatorWords
from .contrasts import beyond_words, drawn
from .figure import Figure


def mass(equal: Frame | None, said: OperatorWords) -> Figure | None:
    """The rows of `run.equal_mass`; None for a run without them, or where no token has such a pair."""
    if equal is None or "metric" not in equal or equal["metric"].isna().all():
        return None
    frame, cut = _plain(equal[equal["metric"].notna()]), equal[equal["metric"].isna()]
    names = list(dict.fromkeys(frame.sort_values("role", ascending=False, kind="stable")["metric"]))
    tested = list(dict.fromkeys(frame["outcome"]))
    outcomes = sorted(tested, key=lambda o: [*OUTCOMES, *tested].index(o))
    return Figure(
        "mass",
        "Is it the expert, or its weight?",
        Markup(
            "{} Of each token, the active expert with the highest value of the metric is compared with another "
            "active one, drawn at random among those whose gate weight is within 10% of its own: a metric that "
            "says no more than how much of the mixture an expert is given shows nothing here. Tokens without such "
            "a pair are left out ({} of the tokens of a contrast have one). d<sub>z</sub> with 95% intervals over "
            "documents; for these experts, which are not shuffled, so the random score of each expert below the "
            "rule may differ from zero as well.{}{}"
        ).format(_sentence(frame, outcomes), _share(frame), beyond_words(frame), _without(cut)),
        drawn(frame, names, outcomes, said),
        folded("Every contrast at equal gate weight as a table", _table(frame)),
        face(frame, names, outcomes),
    )


def _plain(equal: Frame) -> Frame:
    """With the names and plain floats that the panels of the contrasts read."""
    named = {"d_z_low": "low", "d_z_high": "high", "p_holm": "p_adjusted"}
    out = equal.rename(columns={**named, "verdict_these_experts": "verdict"})
    numbers = ["d_z", "low", "high", "p", "p_adjusted", "mass", "mass_control", "difference"]
    out[numbers] = out[numbers].astype("Float64").astype("float64")
    return out.reset_index(drop=True).astype({"layer": "int64"})


def _sentence(frame: Frame, outcomes: list[str]) -> str:
    """In plain words: how many contrasts are left at equal weight."""
    parts = []
    for outcome in outcomes:
        rows = frame[(frame["outcome"] == outcome) & (frame["role"] == "metric")]
        few = int((rows["verdict"] == TOO_FEW).sum())
        text = f"{outcome_name(outcome).lower()} in {int(rows['verdict'].isin(SHOWN).sum())} of {len(rows)}"
        parts.append(text + (f" ({few} have too little text to say)" if few else ""))
    return (
        f"At equal gate weight the expert that a metric puts first is shown to differ in {' and in '.join(parts)} "
        "contrasts, corrected over metrics and layers."
    )


def _without(cut: Frame) -> str:
    """Outcomes that have no row here, and why."""
    why = dict(zip(cut["outcome"], cut["reason"]))
    return "".join(f" Not of {outcome_name(o).lower()}: {reason}" for o, reason in why.items())


def _share(frame: Frame) -> str:
    share = frame["n"].astype(float) / (frame["n"] + frame["n_dropped"]).astype(float)
    low, high = percent(float(share.min()), 0), percent(float(share.max()), 0)
    return low if low == high else f"{low} to {high}"


def _table(frame: Frame) -> Markup:
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("role", lambda r: ROLES[r["role"]], text=True),
        Column("layer", lambda r: r["layer"]),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        Column("tokens", lambda r: count(r["n"])),
        Column("left out", lambda r: count(r["n_dropped"])),
        Column("gate weight", lambda r: _weight(r["mass"])),
        Column("of the other", lambda r: _weight(r["mass_control"])),
        Column("d_z [95% interval]", lambda r: estimate(r["d_z"], r["low"], r["high"])),
        Column("p", lambda r: probability(r["p"])),
        Column("p adjusted", lambda r: probability(r["p_adjusted"])),
        Column("for these experts", lambda r: r["verdict"], text=True),
    ]
    return table(
        rows_of(frame),
        columns,
        "The highest-metric active expert against another of equal gate weight",
        [
            "p over documents (sign-flips of whole ones), adjusted by Holm over the metrics and layers of the outcome."
        ],
    )


def _weight(value: float) -> str:
    return "\N{EN DASH}" if np.isnan(value) else f"{value:.3f}"
