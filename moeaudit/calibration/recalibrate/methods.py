"""The recalibrations that can be compared: what each needs, and how it is fitted and applied.

A new method is a function of two splits and an entry of `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError

from ..predictions.predictions import Predictions
from .isotonic import fit_isotonic
from .temperature.fit import TemperatureFit, log_softmax
from .temperature.grid import TemperatureGrid
from .temperature.temperature import binary_logits, fit_temperature
from .vector import fit_vector

NONE = "none"


@dataclass(frozen=True)
class Split:
    """Predictions of one set of documents and what a recalibration of them needs.

    `logits` (rows, classes) with `label`, or `grid` for a vocabulary, or neither: then only
    methods that need no more than confidences are possible. `groups` are named labels, one per
    row, for fits by domain, expert or routing configuration.
    """

    predictions: Predictions
    logits: Float[np.ndarray, "n classes"] | None = None
    label: Int[np.ndarray, " n"] | None = None
    grid: TemperatureGrid | None = None
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.predictions)
        if (self.logits is None) != (self.label is None):
            raise InputError("Logits and labels go together; give both or neither.")
        parts = {"logits": self.logits, "label": self.label, "grid": self.grid, **self.groups}
        for name, part in parts.items():
            if part is not None and len(part) != n:
                raise InputError(f"There are {n} predictions and {len(part)} rows of {name}.")

    @classmethod
    def of_logits(
        cls,
        logits: Float[np.ndarray, "n classes"],
        label: Int[np.ndarray, " n"],
        *,
        group: Any = None,
        document: Any = None,
        weight: Any = None,
        groups: Mapping[str, np.ndarray] | None = None,
    ) -> Split:
        """A split of classifier logits; the predictions carry the softmax."""
        p = np.exp(log_softmax(logits.astype(np.float64)))
        predictions = Predictions.from_probabilities(p, label, group, document, weight)
        return cls(predictions, logits, label, groups=dict(groups or {}))


@dataclass(frozen=True)
class Applied:
    """New predictions of the report, the fits (one row a group), and what was counted."""

    predictions: Predictions
    fits: pd.DataFrame
    n_fallback: int = 0
    n_unseen: int = 0


def isotonic(fit: Split, report: Split, by: str, min_size: int) -> Applied:
    """The best non-decreasing map of the confidence, in all or in each group of `by`."""
    p, r = fit.predictions, report.predictions
    own, theirs = _groups(fit, report, by)
    found = fit_isotonic(p.confidence, p.correct, group=own, weight=p.weights, min_size=min_size)
    confidence, unseen = found.apply(r.confidence, theirs)
    fits = found.frame() if by else _one_fit(len(p))
    return Applied(_with(r, np.clip(confidence, 0, 1)), fits, found.n_fallback, unseen)


def vector(fit: Split, report: Split, _by: str, _min_size: int) -> Applied:
    """Vector scaling of the logits; it has no form by group."""
    assert fit.logits is not None and fit.label is not None and report.logits is not None
    r = report.predictions
    scaled = fit_vector(fit.logits, fit.label, weight=fit.predictions.weights)
    new = np.exp(scaled.log_probabilities(report.logits))
    done = Predictions.from_probabilities(new, report.label, r.group, r.document, r.weight)
    return Applied(replace(done, declared=r.declared), _one_fit(len(fit.predictions)))


def temperature(fit: Split, report: Split, by: str, min_size: int) -> Applied:
    """One temperature on the logits, or read off a grid where a vocabulary is too large to hold."""
    own, theirs = _groups(fit, report, by)
    weight, r = fit.predictions.weights, report.predictions
    if fit.logits is not None and report.logits is not None:
        assert fit.label is not None
        found = fit_temperature(fit.logits, fit.label, group=own, weight=weight, min_size=min_size)
        new = np.exp(found.log_probabilities(report.logits, theirs))
        done = replace(_with(r, new.max(axis=1)), probabilities=new, label=report.label)
        return _tempered(found, done, theirs)
    if fit.grid is None or report.grid is None:
        raise InputError("Both splits must carry logits, or both a temperature grid.")
    found = fit.grid.fit(group=own, weight=weight, min_size=min_size)
    heat, _ = found.of_rows(theirs, len(r))
    return _tempered(found, _with(r, report.grid.at(heat)[1]), theirs)


def temperature_binary(fit: Split, report: Split, by: str, min_size: int) -> Applied:
    """One temperature on log(c / (1 - c)), which needs no more than the confidence c."""
    p, r = fit.predictions, report.predictions
    own, theirs = _groups(fit, report, by)
    found = fit_temperature(
        binary_logits(p.confidence),
        p.correct.astype(np.int64),
        group=own,
        weight=p.weights,
        min_size=min_size,
    )
    new = found.log_probabilities(binary_logits(r.confidence), theirs)
    return _tempered(found, _with(r, np.exp(new[:, 1])), theirs)


@dataclass(frozen=True)
class Method:
    """A recalibration: `meaning`, the data it `needs` of a split, and whether it is fitted by group."""

    meaning: str
    apply: Callable[[Split, Split, str, int], Applied] | None = None
    needs: str = "confidences"
    grouped: bool = True

    def possible(self, split: Split) -> bool:
        if self.needs == "confidences":
            return True
        return split.logits is not None or (self.needs != "logits" and split.grid is not None)


METHODS = {
    NONE: Method("as the model said it"),
    "temperature": Method(
        "one temperature on the whole logits", temperature, "logits or a temperature grid"
    ),
    "temperature_binary": Method(
        "one temperature on the binary logit of the confidence", temperature_binary
    ),
    "isotonic": Method("the best non-decreasing map of the confidence", isotonic),
    "vector": Method("one factor and one offset per class", vector, "logits", grouped=False),
}


def _groups(fit: Split, report: Split, by: str) -> tuple[Any, Any]:
    return (fit.groups[by], report.groups[by]) if by else (None, None)


def _tempered(found: TemperatureFit, done: Predictions, theirs: Any) -> Applied:
    unseen = found.of_rows(theirs, len(done))[1]
    return Applied(done, found.frame(), found.n_fallback, unseen)


def _one_fit(n: int) -> pd.DataFrame:
    return pd.DataFrame({"group": ["all"], "whole": [True], "n": [n]})


def _with(p: Predictions, confidence: np.ndarray) -> Predictions:
    """The same predictions said with another confidence."""
    return replace(p, confidence=confidence, probabilities=None, label=None)
