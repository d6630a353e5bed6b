"""Recalibration fitted on one set of documents and judged on another, with and without side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError, one_of

from ..predictions.predictions import Predictions
from ..scores.scores import calibration_scores
from .isotonic import fit_isotonic
from .temperature.fit import MIN_SIZE, log_softmax
from .temperature.grid import TemperatureGrid
from .temperature.temperature import binary_logits, fit_temperature
from .vector import fit_vector

NONE = "none"
METHODS = {
    NONE: "as the model said it",
    "temperature": "one temperature on the whole logits",
    "temperature_binary": "one temperature on the binary logit of the confidence",
    "vector": "one factor and one offset per class",
    "isotonic": "the best non-decreasing map of the confidence",
}


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

    @property
    def possible(self) -> list[str]:
        """Methods that these data allow."""
        whole = self.logits is not None or self.grid is not None
        names = [NONE, *(["temperature"] if whole else []), "temperature_binary", "isotonic"]
        return [*names, "vector"] if self.logits is not None else names


@dataclass(frozen=True)
class Recalibration:
    """What was fitted, and the reported predictions under every method.

    `fits`: one row per (method, by, group): n, the temperature where there is one, reason (a
    group that fell back). `counts`: groups that fell back, rows of the report whose group the fit
    never saw, and answers that changed (vector scaling only).
    """

    fits: pd.DataFrame
    counts: pd.DataFrame
    predictions: dict[tuple[str, str], Predictions]

    def scores(
        self,
        scores: Sequence[str] = ("gap", "ece_mass_l1", "ece_debiased_documents", "smece", "nll"),
        **settings: Any,
    ) -> pd.DataFrame:
        """Scores of the report with and without: one row per (stratum, score, method, by).

        `value`, `low`, `high` are with the method; `without`, `without_low`, `without_high` are
        the model's own, on the same rows; `settings` go to `calibration_scores`. A score that it
        does not have is refused.
        """
        parts = []
        plain = _wanted(calibration_scores(self.predictions[NONE, ""], **settings), scores)
        before = plain.rename(columns={c: f"without{s}" for c, s in _SUFFIX.items()})
        keys = ["stratum", "score"]
        for (method, by), predictions in self.predictions.items():
            table = _wanted(calibration_scores(predictions, **settings), scores)
            both = table.merge(before[[*keys, *(f"without{s}" for s in _SUFFIX.values())]], on=keys)
            both.insert(2, "method", method)
            both.insert(3, "by", by)
            parts.append(both)
        return pd.concat(parts, ignore_index=True)


_SUFFIX = {"value": "", "low": "_low", "high": "_high"}


def recalibrate(
    fit: Split,
    report: Split,
    *,
    methods: Sequence[str] | None = None,
    by: Sequence[str] = (),
    min_size: int = MIN_SIZE,
) -> Recalibration:
    """Fit on `fit`, apply to `report`; documents must be disjoint.

    Parameters
    ----------
    methods
        Of `METHODS`; all that the data allow if None.
    by
        Names of groupings in both splits: each method but "vector" is also fitted once for each
        group of each. Groups under `min_size` rows use the global fit and are counted.

    Raises InputError for documents that are in both splits, for predictions without documents,
    and for methods the data do not allow.
    """
    _disjoint(fit.predictions, report.predictions)
    possible = [m for m in fit.possible if m in report.possible]
    wanted = list(possible if methods is None else dict.fromkeys([NONE, *methods]))
    for method in wanted:
        if one_of(method, METHODS, "method") not in possible:
            raise InputError(
                f"{method} ({METHODS[method]}) needs "
                f"{'logits' if method == 'vector' else 'logits or a temperature grid'} in both "
                f"splits. With what was given, these are possible: {', '.join(possible)}."
            )
    for name in by:
        if name not in fit.groups or name not in report.groups:
            raise InputError(f"The grouping {name!r} is not in both splits.")
    predictions, fits, counts = {(NONE, ""): report.predictions}, [], []
    for method in wanted:
        for name in ["", *by]:
            if method == NONE or (method == "vector" and name):
                continue
            done, table, count = _one(method, name, fit, report, min_size)
            predictions[method, name] = done
            fits.append(table.assign(method=method, by=name))
            changed = int((done.correct != report.predictions.correct).sum())
            counts.append({"method": method, "by": name, **count, "n_changed": changed})
    columns = ["method", "by", "group", "n", "temperature", "reason"]
    table = pd.DataFrame(columns=columns)
    if fits:
        table = pd.concat(fits, ignore_index=True).reindex(columns=columns)
    return Recalibration(table, pd.DataFrame(counts), predictions)


def _one(
    method: str, by: str, fit: Split, report: Split, min_size: int
) -> tuple[Predictions, pd.DataFrame, dict[str, int]]:
    """One method, globally or by one grouping: new predictions, its fits, what was counted."""
    p, r = fit.predictions, report.predictions
    own = fit.groups[by] if by else None
    theirs = report.groups[by] if by else None
    weight = p.weights
    if method == "isotonic":
        iso = fit_isotonic(p.confidence, p.correct, group=own, weight=weight, min_size=min_size)
        confidence, unseen = iso.apply(r.confidence, theirs)
        table = iso.frame() if by else pd.DataFrame({"group": ["all"], "n": [len(p)]})
        count = {"n_fallback": iso.n_fallback, "n_unseen": unseen}
        return _with(r, np.clip(confidence, 0, 1)), table, count
    if method == "vector":
        assert fit.logits is not None and fit.label is not None and report.logits is not None
        scaled = fit_vector(fit.logits, fit.label, weight=weight)
        new = np.exp(scaled.log_probabilities(report.logits))
        done = Predictions.from_probabilities(new, report.label, r.group, r.document, r.weight)
        table = pd.DataFrame({"group": ["all"], "n": [len(p)]})
        return replace(done, declared=r.declared), table, {"n_fallback": 0, "n_unseen": 0}
    if method == "temperature" and fit.logits is not None and report.logits is not None:
        assert fit.label is not None
        found = fit_temperature(fit.logits, fit.label, group=own, weight=weight, min_size=min_size)
        _, unseen = found.of_rows(theirs, len(r))
        new = np.exp(found.log_probabilities(report.logits, theirs))
        done = replace(_with(r, new.max(axis=1)), probabilities=new, label=report.label)
    elif method == "temperature":
        if fit.grid is None or report.grid is None:
            raise InputError("Both splits must carry logits, or both a temperature grid.")
        found = fit.grid.fit(group=own, weight=weight, min_size=min_size)
        temperature, unseen = found.of_rows(theirs, len(r))
        done = _with(r, report.grid.at(temperature)[1])
    else:
        found = fit_temperature(
            binary_logits(p.confidence),
            p.correct.astype(np.int64),
            group=own,
            weight=weight,
            min_size=min_size,
        )
        _, unseen = found.of_rows(theirs, len(r))
        new = found.log_probabilities(binary_logits(r.confidence), theirs)
        done = _with(r, np.exp(new[:, 1]))
    return done, found.frame(), {"n_fallback": found.n_fallback, "n_unseen": unseen}


def _with(p: Predictions, confidence: np.ndarray) -> Predictions:
    """The same predictions said with another confidence."""
    return replace(p, confidence=confidence, probabilities=None, label=None)


def _wanted(table: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    known = list(dict.fromkeys(table["score"]))
    for score in scores:
        one_of(score, known, "score")
    return pd.DataFrame(table[table["score"].isin(list(scores))])


def _disjoint(fit: Predictions, report: Predictions) -> None:
    if fit.document is None or report.document is None:
        raise InputError(
            "Recalibration is judged on other documents than it is fitted on, so every prediction "
            "needs its document, on both sides."
        )
    shared = set(np.unique(fit.document).tolist()) & set(np.unique(report.document).tolist())
    if shared:
        raise InputError(
            f"{len(shared)} document(s) are in both splits, the first {sorted(shared, key=str)[0]!r}. "
            "A recalibration judged on documents it was fitted on looks better than it is. Split by "
            "document; give documents of two sets different names if only their numbers coincide."
        )
