"""What the page reads of a run: its words, and every summary of its effects in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moeaudit.frames import Frame

from ..words.operator import OperatorWords, words_of
from ..words.subject import SubjectCells
from ..words.summary import (
    ByDomain,
    Cells,
    Means,
    Spread,
    TokenEffects,
    limits_of,
    summaries,
)

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun


def said_of(run: StoredRun) -> OperatorWords:
    """The words for the run's operator; of one that is not known here the rows say what they are about."""
    said = words_of(run.question)
    first = next(run.shards.frames(["expert"]))
    about_none = said.subject == "expert" and bool((first["expert"] < 0).any())
    return replace(said, subject="layer") if about_none else said


def summarised(run: StoredRun, said: OperatorWords) -> dict[str, Frame]:
    """Every summary of the effects that the page needs, in one pass over the shards."""
    experts = {int(layer): n for layer, n in run.record["model"]["num_experts"].items()}
    by_expert, kind = said.subject == "expert", limits_of(run.question.share)
    wanted = {
        "all": Means(("all",), limits=kind),
        "cells": Cells(experts) if by_expert else SubjectCells(said.subject, kind),
        "depth": Means(("layer",), limits=kind),
        "spread": Spread(),
        "domains": ByDomain(run.tokens, kind),
        "tokens": TokenEffects(),
    }
    return summaries(run.shards, wanted)


def lacks_for_bounds(run: StoredRun) -> str | None:
    """Why verdicts cannot be shown for other sizes of interest; None if they can."""
    from moeaudit.stats.record.made import analyses
    from moeaudit.stats.sensitivity import NEEDS

    absent = [name for name in NEEDS if name not in run.tests]
    if not absent and analyses(run.tests):
        return None
    what = f"has no column {', '.join(absent)}" if absent else "does not say how it was made"
    return (
        f"Verdicts for other sizes of interest are not shown, because the table of tests {what}: it was "
        "written by another version."
    )
