"""Recalibration fitted on one set of documents and judged on another, with and without side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, one_of

from ..predictions.predictions import Predictions
from ..scores.scores import calibration_scores
from .methods import METHODS, NONE, Split
from .temperature.fit import MIN_SIZE


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
        keys = ["stratum", "whole", "score"]
        for (method, by), predictions in self.predictions.items():
            table = _wanted(calibration_scores(predictions, **settings), scores)
            both = table.merge(before[[*keys, *(f"without{s}" for s in _SUFFIX.values())]], on=keys)
            both.insert(3, "method", method)
            both.insert(4, "by", by)
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
    possible = [n for n, m in METHODS.items() if m.possible(fit) and m.possible(report)]
    wanted = list(possible if methods is None else dict.fromkeys([NONE, *methods]))
    for method in wanted:
        if one_of(method, METHODS, "method") not in possible:
            raise InputError(
                f"{method} ({METHODS[method].meaning}) needs {METHODS[method].needs} in both "
                f"splits. With what was given, these are possible: {', '.join(possible)}."
            )
    for name in by:
        if name not in fit.groups or name not in report.groups:
            raise InputError(f"The grouping {name!r} is not in both splits.")
    predictions, fits, counts = {(NONE, ""): report.predictions}, [], []
    for method in wanted:
        how = METHODS[method]
        for name in ["", *by] if how.grouped else [""]:
            if how.apply is None:
                continue
            done = how.apply(fit, report, name, min_size)
            predictions[method, name] = done.predictions
            fits.append(done.fits.assign(method=method, by=name))
            changed = int((done.predictions.correct != report.predictions.correct).sum())
            count = {"n_fallback": done.n_fallback, "n_unseen": done.n_unseen}
            counts.append({"method": method, "by": name, **count, "n_changed": changed})
    columns = ["method", "by", "group", "whole", "n", "temperature", "reason"]
    table = pd.DataFrame(columns=columns)
    if fits:
        table = pd.concat(fits, ignore_index=True).reindex(columns=columns)
    return Recalibration(table, pd.DataFrame(counts), predictions)


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
