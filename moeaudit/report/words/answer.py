"""What the census says, in sentences: the answer first, then how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moeaudit.frames import Column as Series
from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_ESTIMABLE,
    OPEN,
    PREDICTIVE,
    REVERSED,
    SHOWN,
    TOO_FEW,
)

from .bound import span_words
from .evidence import Evidence, metric_name, outcome_name
from .headline import headline
from .largest import ceiling, held_out, of_metric, with_limits
from .numbers import count, estimate, fixed, percent, plural, significant
from .operator import ZERO, OperatorWords
from .robust import tails


@dataclass(frozen=True)
class Answer:
    """`headline` in a few words, `sentences` with the numbers, `thin` on the limits of the evidence."""

    headline: str
    sentences: list[str]
    thin: str


def answer(
    evidence: Evidence, overall: dict[str, float], model: str, said: OperatorWords = ZERO
) -> Answer:
    """The answer to: does any routing metric predict what losing (or otherwise editing) an expert does?"""
    if evidence.untested:
        return _untested(evidence, overall, model, said)
    return Answer(
        headline=headline(evidence, said),
        sentences=[
            _overall(overall, model, said),
            *_outcomes(evidence),
            *_beside(evidence),
            *_across(evidence),
            *_missing(evidence),
        ],
        thin=_thin(evidence),
    )


def _untested(
    evidence: Evidence, overall: dict[str, float], model: str, said: OperatorWords
) -> Answer:
    """The effects stand; what routing metrics are worth was no question that could be asked."""
    harm = estimate(overall["delta_nll"], overall["delta_nll_low"], overall["delta_nll_high"])
    reasons = dict.fromkeys(evidence.untested.values())
    return Answer(
        headline=f"{said.doing_to(model)} changes the loss on the next token by {harm} nats on average",
        sentences=[
            f"Of {count(overall['rows'])} {said.many}, {percent(overall['harmful'], 0)} raise the loss and "
            f"{percent(overall['flip'])} change the top prediction.",
            *(f"Routing metrics were not tested, because {reason}." for reason in reasons),
        ],
        thin=f"The evidence: {plural(int(overall['documents']), 'document')} are the sampling unit, "
        f"{count(overall['rows'])} {said.many}.",
    )


def _missing(evidence: Evidence) -> list[str]:
    reasons = evidence.reasons()
    return [f"Not estimable: {'; '.join(reasons)}."] if reasons else []


def _overall(overall: dict[str, float], model: str, said: OperatorWords) -> str:
    harm = estimate(overall["delta_nll"], overall["delta_nll_low"], overall["delta_nll_high"])
    return (
        f"{said.doing_to(model).removesuffix(',')}, {said.times(count(overall['rows']))}, changes "
        f"the loss on the next token by {harm} nats on average; {percent(overall['harmful'], 0)} of "
        f"the {said.many} raise it and {percent(overall['flip'])} change the top prediction."
    )


def _outcomes(evidence: Evidence) -> list[str]:
    out = []
    for outcome in evidence.outcomes:
        total = evidence.count(outcome)
        if not total:
            continue
        parts = [
            f"{evidence.count(outcome, PREDICTIVE)} of {total} contrasts are predictive (above "
            f"{evidence.bound}, with experts as a sample too)"
        ]
        for verdict, words in (
            (REVERSED, "reversed (as far below zero)"),
            (OPEN, "present with their size open"),
            (BELOW, "present but below that"),
            (
                EQUIVALENT,
                "shown absent (none is shown, and any is below that, with experts as a sample too)",
            ),
            (INCONCLUSIVE, "undecided"),
            (TOO_FEW, "undecided for too few documents"),
            (NOT_ESTIMABLE, "not estimable"),
        ):
            if n := evidence.count(outcome, verdict):
                parts.append(f"{n} {words}")
        text = f"{outcome_name(outcome)}: {', '.join(parts)}"
        best = evidence.strongest(outcome, None)
        if best is not None:
            text += f"; the largest of {total}, so with some luck, is {_cell(best)}{held_out(best)}"
        text += _luck(evidence, outcome)
        out.append(text + ".")
    return out


def _cell(row: Series) -> str:
    size = estimate(float(row["d_z"]), float(row["low"]), float(row["high"]))
    return f"{metric_name(row['metric'])[0]} in layer {row['layer']} (d_z = {size})"


def _luck(evidence: Evidence, outcome: str) -> str:
    """How many stand up to luck over experts, and how far the metrics get of what is to be had."""
    rows = evidence.metrics(outcome)
    if "p_experts_maxt" not in rows or rows["p_experts_maxt"].isna().all():
        return ""
    enough = rows["verdict"] != TOO_FEW
    sure = enough & (rows["p_adjusted"] <= evidence.alpha)
    both = sure & (rows["p_experts_maxt"] <= evidence.alpha)
    text = (
        f". {int(sure.sum())} differ from zero for these experts; {int(both.sum())} of them by more than "
        "the same numbers dealt to other experts would"
    )
    if "verdict_these_experts" in rows:
        small = int((rows["verdict_these_experts"] == "equivalent to none").sum())
        text += f"; {small} are shown absent for these experts" if small else ""
    share = rows["of_oracle"].dropna()
    if len(share):
        text += (
            f". A metric reaches {percent(float(share.median()), 0)} (median) of what the held-out effect, "
            "one number an expert too, reaches"
        )
        dice = evidence.control(outcome, "random_score")["of_oracle"].abs().dropna()
        if len(dice):
            text += (
                f" (a random score of each expert: {percent(float(dice.median()), 0)}, either way)"
            )
    return text


def _beside(evidence: Evidence) -> list[str]:
    """What the controls reach, and what the sizes are where tails are not let decide."""
    names = [(o, outcome_name(o).lower()) for o in evidence.outcomes if evidence.count(o)]
    controls = [f"of {name}, {found}" for o, name in names if (found := _controls(evidence, o))]
    robust = [f"of {name}, {found}" for o, name in names if (found := tails(evidence, o))]
    out = []
    if controls:
        out.append(f"For comparison, d_z across layers {'; '.join(controls)}.")
    if robust:
        out.append(f"Tails are heavy: {'. And '.join(robust)}.")
    return out


def _controls(evidence: Evidence, outcome: str) -> str:
    parts = []
    for name, words in (
        ("gate_weight", "the token's own gate weight"),
        ("heldout_causal", "the expert's mean effect in other documents"),
        ("random", "a random pair"),
        ("random_score", "a random score of each expert"),
    ):
        control = evidence.control(outcome, name)
        rows = control["d_z"].dropna()
        if len(rows) and name == "heldout_causal":
            parts.append(f"{words}, an estimate and no bound, {with_limits(control)}")
        elif len(rows):
            low, high = fixed(rows.min(), 2, True), fixed(rows.max(), 2, True)
            span = low if low == high else f"{low} to {high}"
            parts.append(f"{words} {span}")
    return ", ".join(parts)


def _across(evidence: Evidence) -> list[str]:
    rows = evidence.harm
    if rows.empty:
        return []
    first = _first(evidence)
    name = "harm" if first == "delta_nll" else outcome_name(first).lower()
    rows = rows[(rows["outcome"] == first) & (rows["role"] == "metric") & rows["rho"].notna()]
    if rows.empty:
        return [f"Across experts, no rank correlation of a metric with {name} could be estimated."]
    found = rows[rows["verdict"].isin(SHOWN)]
    text = (
        f"Across the experts of a layer, {len(found)} of {len(rows)} rank correlations of a metric "
        f"with expected {name} are shown by documents and by experts"
    )
    if found.empty:
        return [f"{text}."]
    beyond = int(rows["verdict"].isin([PREDICTIVE, REVERSED]).sum())
    sesoi = rows["sesoi"].dropna()
    if len(sesoi):
        text += f", {beyond} of them above {significant(sesoi.max(), 2)} with their interval"
    best = found.loc[found["rho"].abs().idxmax()]
    size = estimate(float(best["rho"]), float(best["low"]), float(best["high"]))
    return [
        f"{text}, for text like this; the largest of {len(rows)}, so with some luck, is "
        f"{metric_name(best['metric'])[0]} in layer {best['layer']} (rho = {size}; "
        f"ceiling about {ceiling(best)}){held_out(best)}."
    ]


def _thin(evidence: Evidence) -> str:
    if not evidence.outcomes:
        return "No contrast could be made."
    first = _first(evidence)
    name = outcome_name(first).lower()
    rows = evidence.metrics(first)
    if rows.empty:
        return f"No contrast of {name} could be made."
    documents = int(rows["documents"].max())
    text = (
        f"The evidence: {plural(documents, 'document')} are the sampling unit, "
        f"{count(rows['n'].max())} tokens a contrast."
    )
    mde = rows["mde"].dropna()
    if len(mde):
        text += (
            f" For these experts a contrast of {name} would be found with 80% power from "
            f"d_z = {significant(mde.median(), 2)} (median over cells)"
        )
        sesoi = rows["sesoi"].dropna()
        if len(sesoi):
            text += f"; the declared smallest effect of interest is {evidence.bound}"
            if sesoi.nunique() > 1:
                text += f", which is {span_words(sesoi.min(), sesoi.max())} by cell"
        text += "."
    undecided = evidence.undecided(first)
    if undecided:
        text += (
            f" {plural(undecided, 'contrast')} of {name} can neither be shown nor ruled out: "
            f"{_what_would(evidence, first, undecided)}."
        )
    for caution in evidence.cautions():
        text += f" Caution: {caution}."
    return text


def _what_would(evidence: Evidence, outcome: str, undecided: int) -> str:
    luck = evidence.by_luck(outcome)
    if luck == undecided:
        return (
            "documents decide them for these experts, and so few experts could do so by luck; more text may show "
            "them small for these, but says nothing of experts like them"
        )
    if luck:
        return (
            f"more documents would decide {undecided - luck} of them for these experts, as they have decided the "
            "others; whether luck over experts would do as well, more text does not settle"
        )
    return (
        "more documents would decide them for these experts; whether luck over experts would do as well, more text "
        "does not settle"
    )


def _first(evidence: Evidence) -> str:
    """Harm, or else the first outcome that was tested."""
    return "delta_nll" if "delta_nll" in evidence.outcomes else evidence.outcomes[0]


def verdict_table(evidence: Evidence) -> list[dict[str, Any]]:
    """One row per metric and control: how many layers got which verdict, and the strongest d_z."""
    out: list[dict[str, Any]] = []
    frame = evidence.contrasts
    for name in dict.fromkeys(frame["metric"]):
        rows = frame[frame["metric"] == name]
        entry: dict[str, Any] = {"metric": name, "role": rows["role"].iloc[0]}
        for outcome in evidence.outcomes:
            part = rows[rows["outcome"] == outcome]
            counts = part["verdict"].value_counts()
            known = part[part["d_z"].notna()]
            best = known.loc[known["d_z"].abs().idxmax()] if len(known) else None
            entry[outcome] = {
                "cells": len(part),
                "verdicts": {str(k): int(v) for k, v in counts.items()},
                "best": None
                if best is None
                else {k: best[k] for k in ("layer", "d_z", "low", "high", "verdict")}
                | {"held_out": of_metric(best)},
            }
        out.append(entry)
    return out
