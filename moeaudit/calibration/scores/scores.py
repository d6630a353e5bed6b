"""`calibration_scores`: every score of every stratum, with limits and nulls, in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pandas as pd

from moeaudit.errors import InputError, one_of
from moeaudit.frames.waiting import parts
from moeaudit.seeds import check_seed
from moeaudit.stats.nullable import nullable

from ..predictions.cells import check_bins
from ..predictions.predictions import Predictions
from .classes import MEANING as MEANING_OF_CLASSES
from .classes import class_rows
from .points.kuiper import kuiper_sigma
from .points.parts import part_rows
from .resample import Resamples
from .shown import Scores
from .stratum import Stratum
from .worst import Worst

ALL = "all"
MOST_DRAWS = 1_000_000
COLUMNS = (
    "stratum",
    "whole",
    "score",
    "value",
    "low",
    "high",
    "null_mean",
    "null_high",
    "p",
    "p_documents",
    "n",
    "documents",
    "n_effective",
    "reason",
)
MEANING = {
    "gap": "mean confidence - accuracy; positive is over-confident",
    "confidence": "mean confidence",
    "accuracy": "share correct",
    "brier": "mean (confidence - correct)^2",
    "nll": "mean -log probability of what happened, nats",
    "ece_width_l1": "ECE, equal width: mean |gap| of bins",
    "ece_width_l2": "root mean square gap of bins of equal width",
    "ece_width_max": "largest |gap| of bins of equal width",
    "ece_mass_l1": "ECE, equal mass: mean |gap| of bins",
    "ece_mass_l2": "root mean square gap of bins of equal mass",
    "ece_mass_max": "largest |gap| of bins of equal mass",
    "smece": "smooth ECE; its bandwidth is its own value",
    "kuiper": "range of cumulative differences (ECCE-R)",
    "ks": "largest cumulative difference (ECCE-MAD)",
    "kuiper_sigma": "kuiper in standard deviations; p from Brownian motion",
    "ece_squared_rows": "squared ECE (mass, l2) less the noise of independent rows",
    "ece_debiased_rows": "its root, 0 if negative",
    "ece_squared_documents": "squared ECE (mass, l2) from pairs of different documents",
    "ece_debiased_documents": "its root, 0 if negative",
    "brier_calibration": "Brier score that isotonic recalibration removes",
    "brier_refinement": "Brier score that it leaves",
    "nll_calibration": "NLL that isotonic recalibration removes, nats",
    "nll_refinement": "NLL that it leaves, nats",
    "multicalibration": "largest kuiper of a group on the scale of its noise",
    **MEANING_OF_CLASSES,
}


def calibration_scores(
    predictions: Predictions | pd.DataFrame,
    by: str | None = "group",
    bins: int = 15,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | Literal[False] | None = None,
) -> pd.DataFrame:
    """Every calibration score of all predictions and of every group.

    Parameters
    ----------
    predictions
        Predictions, or a table with the columns of `Predictions.from_frame`.
    by
        "group" for strata beside the whole (where predictions have groups), or None.
    bins
        Number of bins of the binned scores.
    draws
        Number of document resamples, of outcome resamples and of sign flips.
    level
        Of limits and of `null_high`.
    progress
        Called with (strata done, strata in all) after each.

    Returns one row per (stratum, score). `whole` is true in the rows of all predictions together, whose
    stratum is "all"; a group may be called that too. `low` and `high`: limits for the truth by document
    bootstrap (`intervals`). `null_mean`, `null_high`, `p`: what the score would be if outcomes were
    drawn independently from the confidences (upper quantile at `level`; two-sided for gap, Brier and
    NLL). `p_documents`: the same question with dependence inside documents allowed for, by turning whole
    documents' residuals in sign. Where fewer than 30 errors (or right answers) are expected or seen, or
    in fewer documents, signs cannot be turned: outcomes are drawn, tied within documents, limits are
    those of `rare_limits`, and the reason says so. Weighted documents count by
    Kish's number. Missing numbers are null, and `reason` says why.
    Raises InputError for values no score can be computed from.
    """
    p = (
        Predictions.from_frame(predictions)
        if isinstance(predictions, pd.DataFrame)
        else predictions
    )
    one_of(by, ("group", None), "by=")
    check_settings(bins, draws, level)
    check_seed(seed)
    resamples = Resamples(p.n_documents, draws, seed)
    unit = resamples.unit_of[p.documents]
    whole = Stratum(ALL, p, unit, resamples, bins, level, 0)
    rows = _rows(whole, True)
    groups = p.groups() if by == "group" and p.group is not None else []
    with parts(progress, "calibration scores", 1 + len(groups), "groups") as tell:
        tell(1, 1 + len(groups))
        if by == "group" and p.group is not None:
            worst = Worst(kuiper_sigma(p))
            for i, name in enumerate(groups, start=1):
                tell(i, 1 + len(groups))
                of_group = p.group == name
                if not of_group.any():
                    rows += _refused(
                        name, "no predictions in this stratum", p.probabilities is not None
                    )
                    continue
                part = Stratum(
                    name, p.take(of_group), unit[of_group], resamples, bins, level, i, whole
                )
                rows += _rows(part)
                worst.add(part)
            rows.append(_counted(ALL, p, worst.row(level), True))
            tell(1 + len(groups), 1 + len(groups))
    return Scores(_finish(rows))


def check_settings(bins: int, draws: int, level: float) -> None:
    """Raise InputError for numbers that no score can be computed with."""
    check_bins(bins)
    if draws < 20:
        raise InputError(f"draws is {draws}; fewer than 20 give no limits. 1,000 is the custom.")
    if draws > MOST_DRAWS:
        raise InputError(
            f"draws is {draws:,}; beyond {MOST_DRAWS:,} no digit of a limit changes. 1,000 is the custom."
        )
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must lie strictly between 0 and 1.")


def _rows(part: Stratum, whole: bool = False) -> list[dict[str, Any]]:
    why = part.p.lack(documents=1)
    if why is None:
        rows = [*part.rows(), *part_rows(part), *class_rows(part)]
    else:
        rows = _refused(part.name, why, part.p.probabilities is not None)
    return [_counted(part.name, part.p, row, whole) for row in rows]


def _refused(name: Any, why: str, classes: bool) -> list[dict[str, Any]]:
    left_out = {"multicalibration"} | (set() if classes else set(MEANING_OF_CLASSES))
    scores = [score for score in MEANING if score not in left_out]
    empty = {"stratum": name, "reason": f"not estimable: {why}", "n": 0, "documents": 0}
    empty["whole"] = False
    return [{**empty, "score": score, "n_effective": 0.0} for score in scores]


def _counted(name: Any, p: Predictions, row: dict[str, Any], whole: bool) -> dict[str, Any]:
    counts = {"n": len(p), "documents": p.n_documents, "n_effective": p.n_effective}
    return {**row, "stratum": name, "whole": whole, **counts}


WHOLE = ("n", "documents")
NUMBERS = ("value", "low", "high", "null_mean", "null_high", "p", "p_documents", "n_effective")


def _finish(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Nullable columns, nothing as NaN; strata as text."""
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table["stratum"] = table["stratum"].map(str)
    return nullable(table, WHOLE, ("reason",), NUMBERS)
