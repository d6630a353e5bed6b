"""The reliability table: accuracy beside confidence, bin by bin, with limits and bands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.frames.waiting import parts
from moeaudit.stats.least import DOCUMENTS_FOR_LIMITS, EFFECTIVE_SIZE
from moeaudit.stats.nullable import nullable

from ..predictions.predictions import Predictions, effective
from .intervals import mean_limits
from .points.binned import Binning, bin_of
from .rare import events_of
from .resample import Resamples, combine, widening
from .shown import Reliability
from .stratum import Stratum

ALL = "all"
COLUMNS = (
    "stratum",
    "whole",
    "bin",
    "start",
    "end",
    "share",
    "confidence",
    "accuracy",
    "gap",
    "gap_low",
    "gap_high",
    "band_low",
    "band_high",
    "n",
    "documents",
    "n_effective",
    "reason",
)


def reliability(
    predictions: Predictions | pd.DataFrame,
    by: str | None = "group",
    bins: int = 15,
    binning: Binning = "mass",
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | Literal[False] | None = None,
) -> pd.DataFrame:
    """How accuracy follows confidence, bin by bin: the table behind a reliability diagram.

    Parameters
    ----------
    predictions
        Predictions, or a table with the columns of `Predictions.from_frame`.
    by
        "group" for strata beside the whole (where predictions have groups), or None.
    bins
        Number of bins.
    binning
        "mass" for bins of equal weight, "width" for bins of equal width.
    draws, seed, level
        Document resamples and draws of outcomes, their seed, and the level of limits and bands.
    progress
        Called with (groups begun, groups in all).

    Returns
    -------
    One row per (stratum, bin that holds predictions); `whole` as in `calibration_scores`.

    `gap` is confidence - accuracy; `gap_low`, `gap_high` are its limits by document bootstrap, each
    bin for itself. `band_low`, `band_high` enclose, for all bins of the stratum at once with probability
    `level`, the accuracies that calibrated confidences with independent outcomes would show (the
    consistency band of Brocker & Smith 2007, made simultaneous): a point outside is miscalibrated.
    `start` and `end` are the smallest and largest confidence in the bin. Bins of effective size
    under 10 have no limits, and the reason says so.

    Raises InputError for values no score can be computed from, and for `bins` below 1.
    """
    p = (
        Predictions.from_frame(predictions)
        if isinstance(predictions, pd.DataFrame)
        else predictions
    )
    resamples = Resamples(p.n_documents, draws, seed)
    unit = resamples.unit_of[p.documents]
    rows = _bins(ALL, True, p, unit, resamples, bins, binning, level, 0)
    if by == "group" and p.group is not None:
        groups = p.groups()
        with parts(progress, "reliability", len(groups), "groups") as tell:
            for i, name in enumerate(groups, start=1):
                tell(i, len(groups))
                of_group = p.group == name
                if p.weights[of_group].any():
                    part = p.take(of_group), unit[of_group]
                    rows += _bins(str(name), False, *part, resamples, bins, binning, level, i)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    limits = ("gap_low", "gap_high", "band_low", "band_high")
    return Reliability(nullable(table, text=("reason",), numbers=limits))


def _bins(
    name: str,
    whole: bool,
    p: Predictions,
    unit: Int[np.ndarray, " n"],
    resamples: Resamples,
    bins: int,
    binning: Binning,
    level: float,
    stream: int,
) -> list[dict[str, Any]]:
    seen, place = np.unique(bin_of(p, bins, binning), return_inverse=True)
    w, c, y, size = p.weights, p.confidence, p.correct, len(seen)
    mass = np.bincount(place, w)
    safe = np.where(mass > 0, mass, np.nan)
    confidence, accuracy = np.bincount(place, w * c) / safe, np.bincount(place, w * y) / safe
    sums = [resamples.sums(unit, place, x, size) for x in (w, w * (c - y))]
    drawn, residual = (combine(resamples.counts, s).astype(np.float64) for s in sums)
    gaps = residual / np.where(drawn > 0, drawn, np.nan)
    half = _band(p, place, mass, resamples, level, stream)
    rows = []
    for b in range(size):
        inside = place == b
        row: dict[str, Any] = {"stratum": name, "whole": whole, "bin": int(seen[b])}
        row["share"] = mass[b] / mass.sum()
        row |= {"start": c[inside].min(), "end": c[inside].max()}
        row |= {"confidence": confidence[b], "accuracy": accuracy[b]}
        row["gap"] = confidence[b] - accuracy[b]
        row |= {"n": int(inside.sum()), "n_effective": effective(w[inside])}
        row["documents"] = len(np.unique(p.documents[inside]))
        if row["n_effective"] < EFFECTIVE_SIZE:
            row["reason"] = f"no limits: an effective size under {EFFECTIVE_SIZE}"
        else:
            row["band_low"] = max(0.0, confidence[b] - half[b])
            row["band_high"] = min(1.0, confidence[b] + half[b])
            of_bin = p.take(inside)
            if of_bin.effective_documents < DOCUMENTS_FOR_LIMITS - 1e-9:
                row["reason"] = f"no limits of the gap: fewer than {DOCUMENTS_FOR_LIMITS} documents"
            elif (few := events_of(of_bin)).rare:
                part = Stratum(name, of_bin, unit[inside], resamples, bins, level, stream)
                row["gap_low"], row["gap_high"] = part.rare_means["gap"]
                row["reason"] = f"{few}: limits are Clopper and Pearson's"
            else:
                kept = gaps[np.isfinite(gaps[:, b]), b]
                wider = widening(of_bin.counted_documents, level)
                ends = mean_limits(float(row["gap"]), kept, level, wider)
                row["gap_low"], row["gap_high"] = ends
        rows.append(row)
    return rows


def _band(
    p: Predictions,
    place: Int[np.ndarray, " n"],
    mass: Float[np.ndarray, " bins"],
    resamples: Resamples,
    level: float,
    stream: int,
) -> Float[np.ndarray, " bins"]:
    """Half-widths that hold for all bins at once: normal deviates scaled to each bin's own spread."""
    w, c = p.weights, p.confidence
    spread = np.sqrt(np.bincount(place, w**2 * c * (1 - c))) / np.where(mass > 0, mass, np.nan)
    deviates = resamples.generator(5, stream).standard_normal((4000, len(mass)))
    return spread * np.quantile(np.abs(deviates).max(axis=1), level)
