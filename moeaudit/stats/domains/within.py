"""The within-token contrast by domain: d_z from the documents of each, and from all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..contrast.cells import Cell, pair
from ..contrast.controls import control_cell, heldout_score
from ..contrast.slots import Slots
from ..sizes.limits import adjusted_limits, jackknife_se
from ..sizes.moments import Moments, d_z, jackknife, moments, weighted
from .labels import Labels, no_estimate
from .values import Table, slot_scores

NO_SPREAD = "leaving one document out leaves no spread"


def within_rows(
    slots: Slots,
    names: Sequence[str],
    values: Mapping[str, Table],
    controls: tuple[str, ...],
    labels: Labels,
    *,
    level: float | int,
    seed: int,
    n_folds: int,
) -> Iterator[dict[str, Any]]:
    """One row for each metric and domain, then for each control and domain, of one layer.

    `values` are those of `Values.layer`: a token is scored by the table of its own domain where there is
    one for each.
    """
    for i, name in enumerate(names):
        cells = {
            kind: pair(slots, slot_scores(slots, tables[:, i], labels.code), name, "metric")
            for kind, tables in values.items()
        }
        cell = cells.pop("whole")
        yield from _rows(cell, cells, labels, slots.n_documents, level)
    for name in controls:
        cell = control_cell(slots, name, seed=seed, n_folds=n_folds)
        again = {}
        if name == "heldout_causal" and len(labels.names) > 1:
            score = heldout_score(slots, labels.code)
            again["elsewhere"] = pair(slots, score, name, "control")
        yield from _rows(cell, again, labels, slots.n_documents, level)


def _rows(
    cell: Cell, again: dict[str, Cell], labels: Labels, n_documents: int, level: float | int
) -> Iterator[dict[str, Any]]:
    whole = _reduced(cell, n_documents)
    others = {kind: _reduced(other, n_documents) for kind, other in again.items()}
    for number, domain in enumerate(labels.names):
        inside = labels.inside(number)
        part = Moments(whole.sums[inside], whole.centre)
        row: dict[str, Any] = {
            "metric": cell.metric,
            "role": cell.role,
            "layer": cell.layer,
            "domain": domain,
            "n": part.n,
            "n_documents": part.n_documents,
            "whole": _size(whole),
            "without": _size(Moments(whole.sums[labels.outside(number)], whole.centre)),
        }
        row |= {kind: _size(Moments(m.sums[inside], m.centre)) for kind, m in others.items()}
        yield row | _limits(part, cell.reason, level)


def _reduced(cell: Cell, n_documents: int) -> Moments:
    return moments(cell.document, cell.high, cell.low, n_documents)


def _size(m: Moments) -> float:
    return float(d_z(weighted(m))[0]) if m.n > 1 else float("nan")


def _limits(part: Moments, reason: str | None, level: float | int) -> dict[str, Any]:
    """Estimate and limits of one domain, or why there are none."""
    reason = reason or no_estimate(part.n_documents)
    if reason is None:
        left = jackknife(part, "d_z")
        if np.isfinite(left).all() and (se := jackknife_se(left)) > 0:
            size = _size(part)
            low, high = adjusted_limits(size, left, level)
            dof = float(part.n_documents - 1)
            known = {"estimate": size, "se": se, "dof": dof, "low": low, "high": high}
            return known | {"reason": None}
        reason = NO_SPREAD
    return {"reason": reason}
