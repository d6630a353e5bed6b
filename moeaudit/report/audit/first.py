"""The first screen in plain words: what was done, what follows for whom, and how sure that is.

Every sentence is graded by the verdicts alone, as the headline is: where most is undecided, nothing is advised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.frames import Frame
from moeaudit.stats.least import DOCUMENTS_FOR_VERDICT
from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    NOT_ESTIMABLE,
    PREDICTIVE,
    REVERSED,
    SHOWN,
    UNDECIDED,
)

from ..words.evidence import Evidence, metric_name
from ..words.numbers import count, fixed, percent, plural, significant
from ..words.operator import OperatorWords
from ..words.where import ACROSS

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun


@dataclass(frozen=True)
class First:
    """`done` in a few sentences; `follows`: whom it concerns and what follows for them, in sentences."""

    done: list[str]
    follows: list[tuple[str, list[str]]]


def first_screen(
    run: StoredRun,
    evidence: Evidence,
    overall: Mapping[str, float],
    said: OperatorWords,
    elsewhere: Frame | None,
) -> First:
    """`elsewhere`: the metric cells with what domains say of them (`words.where.told`); None if nothing is known."""
    follows = []
    if said.subject == "expert" and said.scope == "position" and not evidence.untested:
        if said.removes:
            read = 0 if run.shift is None else int(run.shift.summary["documents"])
            follows.append(("If you want to drop experts", dropping(evidence, elsewhere, read)))
        follows.append(("If you read routing to see what matters", reading(evidence, said)))
    follows.append(("How sure is this?", sure(evidence, overall, run.verification, run.alarm)))
    return First(done(overall, len(run.spec.layers), run.spec.model, said), follows)


def done(overall: Mapping[str, float], layers: int, model: str, said: OperatorWords) -> list[str]:
    """What was done, and what the two outcomes are."""
    times = said.times(count(overall["rows"]))
    one = (
        f"{said.doing_to(model).removesuffix(',')}, {times}, in {plural(layers, 'layer')} and on "
        f"{plural(int(overall['documents']), 'document')}: each time the prediction of the next token was compared "
        "with that of the intact model."
    )
    two = (
        "Harm is how much worse the true next token is predicted; disturbance is how far the prediction moves at all. "
        f"On average the loss changes by {fixed(overall['delta_nll'], 4, True)} nats, and "
        f"{percent(overall['flip'])} of the {said.many} change the top prediction."
    )
    return [one, two]


def dropping(evidence: Evidence, elsewhere: Frame | None, documents: int = 0) -> list[str]:
    """What is known of choosing experts to lose: the rank correlations with harm, and where they hold.

    `documents`: how many of other domains were read.
    """
    warning = (
        "Experts were removed one at a time, for one token: what losing several of them everywhere costs was not "
        "measured here."
    )
    rows = _ranks(evidence)
    if rows.empty:
        return ["This run does not say which experts can be spared.", warning]
    known = rows[rows["verdict"] != NOT_ESTIMABLE]
    shown = known[known["verdict"].isin(SHOWN)]
    open_ = int(rows["verdict"].isin([*UNDECIDED, NOT_ESTIMABLE]).sum())
    of = f"{len(shown)} of {len(rows)} metric-by-layer comparisons"
    if 2 * open_ > len(rows):
        text = (
            "There is too little to say whether a routing metric puts experts in the order of their harm: "
            f"{open_} of {len(rows)} comparisons are undecided"
        )
        text += f", {len(shown)} are shown" if len(shown) else ""
        return [f"{text}. Do not choose by a metric on this evidence.", warning]
    if shown.empty:
        return [
            "No routing metric is shown to put the experts of a layer in the order of their harm: choosing by one is "
            "not shown to beat choosing blindly.",
            warning,
        ]
    wrong = int((shown["rho"] < 0).sum())
    text = (
        f"On text like this, a routing metric puts the experts of a layer in the order of their harm better than "
        f"chance in {of}"
    )
    text += f" ({wrong} of them the wrong way round)" if wrong else ""
    times = shown["metric"].value_counts(sort=False)
    most = [metric_name(str(name))[0] for name in times.index[times == times.max()]]
    layers = int(rows["layer"].nunique())
    if len(most) <= 4:
        text += (
            f"; most often {', '.join(most)}, in {int(times.max())} of {plural(layers, 'layer')}"
        )
    size = shown["sesoi"].dropna()
    if len(size):
        beyond = int(shown["verdict"].isin([PREDICTIVE, REVERSED]).sum())
        least = f"a rank correlation above {significant(size.max(), 2)} is shown"
        text += (
            f". In {beyond} {least}"
            if beyond
            else f". How good the order is stays open: in none {least}"
        )
    text += "."
    return [text, *_elsewhere(elsewhere, documents), warning]


def _ranks(evidence: Evidence) -> Frame:
    rows = evidence.harm
    if rows.empty:
        return rows
    return rows[(rows["role"] == "metric") & (rows["outcome"] == "delta_nll")]


def _elsewhere(cells: Frame | None, documents: int) -> list[str]:
    """Whether the ranks of the mixture are seen in text of other domains as well."""
    if cells is None:
        return ["Other domains were not run."]
    rows = cells[(cells["question"] == ACROSS) & (cells["outcome"] == "delta_nll")]
    there = rows["there"].to_numpy("float64", na_value=np.nan)
    if not np.isfinite(there).any():
        return ["Other domains were not run."]
    if documents < DOCUMENTS_FOR_VERDICT:
        return [
            f"Whether that holds in other domains is open: {plural(documents, 'document')} of them were read, and a "
            f"verdict needs {DOCUMENTS_FOR_VERDICT}."
        ]
    here = rows["estimate"].to_numpy("float64", na_value=np.nan)
    here, there = float(np.nanmedian(here)), float(np.nanmedian(there))
    text = (
        f"Median rank correlation here {fixed(here, 2, True)}, in {count(documents)} documents of other domains "
        f"{fixed(there, 2, True)}"
    )
    roof = np.nan
    if "shown_there_ceiling" in rows:
        roof = float(np.nanmedian(rows["shown_there_ceiling"].to_numpy("float64", na_value=np.nan)))
        text += f", where noise lets about {fixed(roof, 2)} be seen" if np.isfinite(roof) else ""
    # Noise alone lowers a correlation: it is held against what could be seen there, too.
    if abs(there) < min(abs(here), roof if np.isfinite(roof) else np.inf) / 2:
        text += ". Measure on the text that you will use"
    return [f"{text}."]


def reading(evidence: Evidence, said: OperatorWords) -> list[str]:
    """What a metric says of one token: whether its highest expert there is the one that matters more."""
    out = []
    named = [("delta_nll", f"costs more {said.cost}"), ("kl", "moves the prediction more")]
    for outcome, words in named:
        rows = evidence.metrics(outcome) if outcome in evidence.outcomes else None
        if rows is None or rows.empty:
            continue
        out.append(_token(evidence, outcome, words))
    gate = _gate(evidence)
    return [*out, *([gate] if gate else [])] or ["No contrast of harm or disturbance was made."]


def _token(evidence: Evidence, outcome: str, words: str) -> str:
    total = evidence.count(outcome)
    open_ = evidence.undecided(outcome) + evidence.count(outcome, NOT_ESTIMABLE)
    strong, wrong = evidence.count(outcome, PREDICTIVE), evidence.count(outcome, REVERSED)
    small = evidence.count(outcome, BELOW) + evidence.count(outcome, EQUIVALENT)
    asked = f"Whether the expert with the higher metric {words} at that token"
    if 2 * open_ > total:
        return f"{asked} is undecided in {open_} of {total} contrasts: no cause can be read off a metric here."
    parts = [f"by more than {evidence.bound} in {strong} of {total} contrasts"]
    if wrong:
        parts.append(f"the other way round in {wrong}")
    if small:
        parts.append(f"by less than that, if at all, in {small}")
    rest = total - strong - wrong - small
    if rest:
        parts.append(f"not settled in {rest}")
    return f"{asked}: {', '.join(parts)}."


def _gate(evidence: Evidence) -> str:
    """The token's own gate weight, beside the metrics: said only where it is shown."""
    for outcome, name in (("delta_nll", "harm"), ("kl", "disturbance")):
        if not len(evidence.contrasts):
            break
        rows = evidence.control(outcome, "gate_weight")
        shown = int((rows["verdict"] == PREDICTIVE).sum()) if len(rows) else 0
        if shown:
            return (
                "The gate weight that the router gives at that very token, which is no number of the expert, does "
                f"tell which has more {name}, by more than {evidence.bound} in {shown} of {plural(len(rows), 'layer')}."
            )
    return ""


def sure(
    evidence: Evidence,
    overall: Mapping[str, float],
    verification: Sequence[Mapping[str, Any]],
    alarm: str | None,
) -> list[str]:
    """How far it can be trusted: what is settled, the text behind it, the independent check."""
    out = [alarm] if alarm else []
    total = sum(evidence.count(o) for o in evidence.outcomes)
    undecided = sum(
        evidence.undecided(o) + evidence.count(o, NOT_ESTIMABLE) for o in evidence.outcomes
    )
    if total:
        settled = 1 - undecided / total
        grade = (
            "Little is settled"
            if settled < 0.5
            else "About half is settled"
            if settled < 2 / 3
            else "Most is settled, for text like this"
        )
        text = f"{grade}: {undecided} of {total} contrasts are undecided"
        ranks = _ranks(evidence)
        if len(ranks):
            open_ = int(ranks["verdict"].isin([*UNDECIDED, NOT_ESTIMABLE]).sum())
            text += (
                f", and {open_} of {len(ranks)} comparisons of a metric with harm across experts"
            )
        out.append(f"{text}.")
    text = f"It rests on {plural(int(overall['documents']), 'document')} of one mixture of text"
    mde = evidence.metrics(evidence.outcomes[0])["mde"].dropna() if evidence.outcomes else None
    if mde is not None and len(mde):
        text += f"; what is smaller than d_z = {significant(mde.median(), 2)} would often be missed"
    out.append(f"{text}.")
    cautions = evidence.cautions()
    if cautions:
        more = f"; {plural(len(cautions) - 1, 'more caution')} with the numbers"
        out.append(f"Caution: {cautions[0]}{more if len(cautions) > 1 else ''}.")
    done_ = [v for v in verification if not v["skipped"] and v["n"] and v["agrees"]]
    if done_ and not alarm:
        n = max(int(v["n"]) for v in done_)  # each engine recomputes the same rows
        out.append(
            f"The single effects were checked: {count(n)} of them, drawn by chance and recomputed by "
            f"{plural(len(done_), 'other engine')}, agree up to rounding."
        )
    return out
