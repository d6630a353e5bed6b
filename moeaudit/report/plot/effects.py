"""A table of effects as the figures read it: what was asked, in words, and its summaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.stats.contrast.checks import finite, one_probability
from moeaudit.stats.contrast.frames import frames_of
from moeaudit.store.question import Question
from moeaudit.store.shard import KEY

from ..words.numbers import Number, count, plural, significant
from ..words.operator import ZERO, OperatorWords, words_of
from ..words.summary import Means, Summary, as_row, limits_of, summaries
from .sheet import require

NEEDS = ("document", "position", "layer", "expert", "delta_nll", "kl", "flip")
ADVICE = "Pass the effects that ma.ablate(model, docs) returns, or those of an audit (run.effects)."


@dataclass(frozen=True)
class Asked:
    """`said`: the operator's words; `share` of all removals that were made; `known`: the table says what was asked."""

    said: OperatorWords
    share: float
    known: bool

    @property
    def limits(self) -> str:
        return limits_of(self.share)

    @property
    def doing(self) -> str:
        """`Removing one active expert of the model for one token.`"""
        words = self.said.doing_to("the model")
        return f"{words[0].upper()}{words[1:]}." if self.known else ""

    def behind(self, rows: Number, documents: Number) -> str:
        """How many rows and documents stand behind a figure, and whether they are a sample."""
        text = f"{count(rows)} {self.said.many} in {plural(int(documents), 'document')}"
        if self.share < 1:
            text += f", a sample of {significant(100 * self.share, 2)}% of all"
        return f"{text}."


def asked(effects: Any) -> Asked:
    """What the effects answer. Raises InputError for several questions, no rows, missing columns, or NaN."""
    question = _question(effects)
    if hasattr(effects, "frames") and not hasattr(effects, "iloc"):
        if not any(len(frame) for frame in frames_of(effects, list(NEEDS), "The effects table")):
            raise InputError(
                f"The effects table has no rows, so there is nothing to draw. {ADVICE}"
            )
        return _of(question, 1.0, False)
    require(effects, NEEDS, "The effects table", ADVICE)
    for name in ("delta_nll", "kl"):
        finite(
            effects[name].to_numpy("float64", na_value=np.nan),
            f"The column {name} of the effects",
        )
    share = 1.0
    if "pi" in effects:
        pi = effects["pi"].to_numpy("float64", na_value=np.nan)
        one_probability(pi)
        share = float(pi[0])
    return _of(question, share, bool((effects["expert"] < 0).any()))


def _of(question: Question | None, share: float, about_none: bool) -> Asked:
    said = ZERO if question is None else words_of(question)
    if about_none and said.subject == "expert":
        said = replace(said, subject="layer")
    return Asked(said, share if question is None else question.share, question is not None)


def _question(effects: Any) -> Question | None:
    told = getattr(effects, "attrs", {}).get(KEY)
    if told is None:
        return getattr(effects, "question", None)  # NoFacts is an AttributeError
    if "mixed" in told:
        raise InputError(
            f"This table joins effects of different questions ({'; '.join(told['mixed'])}), and a mean over them "
            "answers none. Draw the effects of each question by themselves."
        )
    from moeaudit.causal.facts import Facts  # with torch, which a page does without

    return Facts.from_dict(told).question


def summarised(effects: Any, known: Asked, **wanted: Summary) -> tuple[dict[str, Frame], str]:
    """The summaries, and the sentence that says how many rows stand behind them."""
    tables = summaries(effects, {**wanted, "all": Means(("all",), limits=known.limits)})
    whole = as_row(tables["all"])
    return tables, known.behind(whole["rows"], whole["documents"])
