"""The tables of the classifiers: scores, differences, and what one temperature leaves of a gain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .classifiers.methods import GLOBAL, NONE, PUBLISHED, ROBUST, ROUTED, by_objective
from .scores import METRICS, Limit, Scores, difference, limits, remaining

Key = tuple[str, str, str]  # routing, training, recalibration


def row_of(limit: Limit, **where: Any) -> dict[str, Any]:
    return {**where, "value": limit.value, "low": limit.low, "high": limit.high}


def score_rows(task: str, scores: dict[Key, Scores], strata: list[str]) -> Iterator[dict[str, Any]]:
    for (routing, training, recalibration), s in scores.items():
        for i, stratum in enumerate(strata):
            for metric in METRICS:
                limit = limits(s.value[metric][:, i], s.draws[metric][:, i])
                if metric != "gap":  # none of the others can be negative
                    limit = Limit(limit.value, max(limit.low, 0.0), limit.high)
                yield row_of(
                    limit, task=task, routing=routing, training=training,
                    recalibration=recalibration, stratum=stratum, metric=metric,
                )  # fmt: skip


def comparisons(routing: str) -> Iterator[tuple[str, str, Key, Key]]:
    """(training, name, a, b): the differences a - b that are reported."""
    vanilla, tempered = (routing, "vanilla", NONE), (routing, "vanilla", GLOBAL)
    for t in ROBUST:
        own = (routing, "vanilla", by_objective(t))
        yield t, "as trained - vanilla", (routing, t, NONE), vanilla
        yield t, "both with one temperature", (routing, t, GLOBAL), tempered
        yield t, "as trained - vanilla with one temperature", (routing, t, NONE), tempered
        yield t, "as trained - vanilla with one temperature by that loss", (routing, t, NONE), own
    for name in (PUBLISHED, ROUTED):
        yield "vanilla", f"{name} - one temperature", (routing, "vanilla", name), tempered
    yield "vanilla", "one temperature - none", tempered, vanilla


def difference_rows(
    task: str, scores: dict[Key, Scores], strata: list[str]
) -> Iterator[dict[str, Any]]:
    for routing in ("soft", "hard"):
        for training, name, a, b in comparisons(routing):
            for i, stratum in enumerate(strata):
                for metric in METRICS:
                    yield row_of(
                        difference(scores[a], scores[b], metric, i), task=task, routing=routing,
                        training=training, comparison=name, stratum=stratum, metric=metric,
                    )  # fmt: skip


def advantage_rows(
    task: str, scores: dict[Key, Scores], strata: list[str]
) -> Iterator[dict[str, Any]]:
    """What is left of a robust loss's gain in ECE and |gap| once both sides have one temperature."""
    for routing in ("soft", "hard"):
        for training in ROBUST:
            raw, after = (
                (scores[routing, training, r], scores[routing, "vanilla", r])
                for r in (NONE, GLOBAL)
            )
            for i, stratum in enumerate(strata):
                for metric in ("ece", "abs_gap"):
                    gain = difference(*raw, metric, i)
                    left = difference(*after, metric, i)
                    share = remaining(raw, after, metric, i)
                    yield {
                        "task": task, "routing": routing, "training": training,
                        "stratum": stratum, "metric": metric,
                        "raw": gain.value, "raw_low": gain.low, "raw_high": gain.high,
                        "after": left.value, "after_low": left.low, "after_high": left.high,
                        "share_left": share.value if share else np.nan,
                        "share_low": share.low if share else np.nan,
                        "share_high": share.high if share else np.nan,
                        "verdict": verdict(gain, share),
                    }  # fmt: skip


def verdict(gain: Limit, share: Limit | None) -> str:
    """Whether one temperature does away with most (more than half) of a gain."""
    if share is None:
        return "worse as trained" if gain.low > 0 else "no decided gain"
    if share.high < 0.5:
        return "mostly gone"
    return "mostly left" if share.low > 0.5 else "undecided"
