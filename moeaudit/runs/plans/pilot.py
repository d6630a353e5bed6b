"""Planning from a pilot: how many documents would decide its cells for a bound and a power."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import RunError

from ..run import StoredRun

SCOPE = (
    "For these experts: more documents make their effects known, not those of other experts. "
    "Take other documents than the pilot's for the run itself."
)


def documents_needed(
    pilot: StoredRun | str | Path,
    *,
    sesoi: str | float | int | None = None,
    power: float | int = 0.8,
    alpha: float | None = None,
) -> pd.DataFrame:
    """Documents at which a within-token contrast is decided, for each tested outcome and layer.

    The pilot gives the noise (how tokens deviate and how they cluster in documents), never the size of
    an effect: `documents` is the smallest number at which an effect of `sesoi` is found with `power`, and
    no effect is shown smaller than `sesoi` with `power`, in the layer's noisiest metric;
    `documents_median` in its median one. Documents are taken to be of the pilot's kind and length.

    Parameters
    ----------
    sesoi
        0.1 (d_z), "0.01nats", "50%harm"; the pilot's own if None.
    alpha
        Error rate of a family; the pilot's if None. Each cell then has alpha over the family's size.

    Returns one row per outcome and layer: outcome, layer, metric (the noisiest), sesoi (d_z there),
    sesoi_nats, documents, documents_median, n_cells. Raises RunError for a run without tests.
    """
    from moeaudit.stats import Bound
    from moeaudit.stats.contrast.contrast import QUESTION
    from moeaudit.stats.sizes.power import documents_for

    run = pilot if isinstance(pilot, StoredRun) else StoredRun.load(pilot)
    tests = run.tests
    if "role" not in tests:
        raise RunError(
            f"The pilot in {run.folder} has no tests to plan from: {tests['reason'].iloc[0]}."
        )
    bound = Bound.parse(run.spec.sesoi if sesoi is None else sesoi)
    bound.check(run.spec.tested)
    rows: list[dict[str, Any]] = []
    mine = (
        (tests["question"] == QUESTION) & (tests["role"] == "metric") & tests["alpha_cell"].notna()
    )
    for (outcome, layer), cells in tests[mine].groupby(["outcome", "layer"], sort=False):
        mean = _mean(run, str(outcome), int(layer)) if bound.unit == "harm" else float("nan")
        plan = documents_for(cells, bound, mean, run.spec.alpha if alpha is None else alpha, power)
        worst = plan.loc[plan["documents"].idxmax()]
        rows.append(
            {
                "outcome": outcome,
                "layer": int(layer),
                **worst[["metric", "sesoi", "sesoi_nats", "documents"]].to_dict(),
                "documents_median": int(np.median(plan["documents"].to_numpy())),
                "n_cells": len(plan),
            }
        )
    if not rows:
        raise RunError(
            f"No cell of the pilot in {run.folder} has a spread to plan from; take more documents."
        )
    return pd.DataFrame(rows)


def _mean(run: StoredRun, outcome: str, layer: int) -> float:
    """Mean outcome of all the layer's rows."""
    from moeaudit.stats.contrast.checks import outcome_column

    column = outcome_column(outcome)
    total, n = 0.0, 0
    for frame in run.shards.frames(["layer", column]):
        values = frame.loc[frame["layer"] == layer, column].astype("float64")
        total += float((values.abs() if outcome.startswith("abs_") else values).sum())
        n += len(values)
    return total / n
