"""The rows of a table that split Brier score and NLL into calibration and refinement."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ..intervals import mean_limits
from ..stratum import Stratum
from .gap import MEANS, means, unit_sums
from .proper import LEAST_DOCUMENTS, refinement_of

SINGLE = "every prediction is {}, so there is nothing to recalibrate on"


def part_rows(part: Stratum) -> list[dict[str, Any]]:
    """Calibration and refinement of Brier score and NLL."""
    names = [f"{loss}_{of}" for loss in ("brier", "nll") for of in ("calibration", "refinement")]
    right = np.unique(part.p.correct[part.p.weights > 0])
    why = None
    if len(right) == 1:
        why = SINGLE.format("correct" if right[0] else "wrong")
    elif part.p.effective_documents < LEAST_DOCUMENTS:
        why = f"cross-fitting needs at least {LEAST_DOCUMENTS} documents"
    if why is not None:
        return [{"score": name, "reason": why} for name in names]
    split = refinement_of(part.p, part.unit, part.cells, part.resamples)
    point = split.losses(np.ones((1, part.resamples.n_units), np.float32))
    drawn = split.losses(part.resamples.counts)
    sums = unit_sums(part.p, part.unit, part.resamples.n_units)
    totals = part.resamples.counts.astype(np.float64) @ sums
    weight = np.where(totals[:, 0] > 0, totals[:, 0], np.nan)  # no document of the stratum drawn
    observed, rows = means(part.p), []
    for loss in ("brier", "nll"):
        i, left = MEANS.index(loss), float(point[loss][0])
        removed = totals[:, i + 1] / weight - drawn[loss]
        rows.append(_row(part, f"{loss}_calibration", float(observed[i]) - left, removed))
        rows.append(_row(part, f"{loss}_refinement", left, drawn[loss]))
    return rows


def _row(
    part: Stratum, score: str, value: float, replicates: Float[np.ndarray, " draws"]
) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"score": score, "reason": part.infinite()}
    if (why := part.why_no_resampling()) is not None:
        return {"score": score, "value": value, "reason": why}
    kept = replicates[np.isfinite(replicates)]
    centred = kept - kept.mean() + value  # refitting on fewer different documents shifts it
    low, high = mean_limits(value, centred, part.level, part.wider)
    return {"score": score, "value": value, "low": low, "high": high}
