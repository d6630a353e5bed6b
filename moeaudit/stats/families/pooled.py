"""One answer per metric over all layers, with the dependence between layers kept.

Layers of one model share their tokens, so their cells are not independent and may not be added up
as if they were (Stouffer's z, a vote count). Here the layers are averaged within each document
first; documents are then the only thing that varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..contrast.cells import Cell
from ..contrast.contrast import asked_of
from ..contrast.controls import CONTROLS
from ..contrast.protocol import Protocol, get_protocol
from ..contrast.row import caution, over_experts_of
from ..contrast.table import ABSENCE, BEYOND, claims, finish, over_experts, sized
from ..few import carriers, lean, too_few
from ..record.made import record
from ..sizes import equivalence, power
from ..sizes.beyond import p_beyond, p_within
from ..sizes.bootstrap import bca_limits, document_weights, leave_one_out, percentile_limits
from ..sizes.effect_sizes import Pairs
from ..sizes.lengths import p_lengths
from ..sizes.limits import Spread, adjusted_limits, adjusted_tost, jackknife_se, student_limits
from ..sizes.moments import COUNT
from . import families
from .crossed import averaged
from .experts import Null, none
from .maxt import max_t

QUESTION = "pooled over layers"
PLAN = ("power_at_sesoi", "mde", "n_to_decide", "n_documents_to_decide")


def pooled(
    effects: Any,
    metrics: Any,
    *,
    outcome: str = "delta_nll",
    protocol: str | Protocol = "moeaudit",
    controls: Sequence[str] = tuple(CONTROLS),
    layers: Sequence[int] | None = None,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """The within-token contrast of each metric averaged over layers; parameters as `contrast`.

    `sesoi` is in d_z, 0.1 if none is given: the mean over layers of d_z has no one size in nats.

    Returns
    -------
    One row per metric and control. `d_z` is the mean over layers of the layers' d_z, every layer
    counting alike; its standard error and interval leave out (or resample) whole documents from
    all layers at once. `p` is the sign-flip test of sum over layers of (document sum / (n sd)),
    each document flipped in all layers together; corrections and `p_maxt` are over the metrics.
    `mde`, `power_at_sesoi`, `n_documents_to_decide` and `n_to_decide` (tokens, over all layers) are of
    the design, as in `contrast`, at alpha over the number of metrics.
    `p_experts` shuffles the metric over the experts of every layer, as `contrast` does, and averages
    d_z again; `experts` counts them over all layers.
    `d_z_crossed_low`, `d_z_crossed_high`, `p_lengths` and `too_few` are as in `contrast`.
    `n_layers` counts the layers that could be used, `n_layers_dropped` those that could not.
    """
    recipe = get_protocol(protocol).with_(**settings).settled((outcome,), averaged=True)
    assert recipe.d_z_bound > 0  # refused before anything is computed
    asked = asked_of(
        effects, metrics, recipe, outcome=outcome, controls=controls, layers=layers, seed=seed,
        reasons=None,
    )  # fmt: skip
    cells = sorted(asked.cells(), key=asked.place)
    table = pool_cells(cells, asked.n_documents, recipe, seed=seed)
    table.insert(0, "outcome", outcome)
    table.insert(0, "question", QUESTION)
    tested = [n for n in asked.names if n not in asked.absent]
    table.attrs = record(
        QUESTION, outcome, recipe, metrics=tested, layers=asked.layers, controls=asked.controls,
        seed=seed, documents=asked.census.documents, scores=metrics,
    )  # fmt: skip
    return table


def pool_cells(
    cells: list[Cell], n_documents: int, recipe: Protocol, *, seed: int = 0
) -> pd.DataFrame:
    """The rows of `pooled` from cells, wherever they come from; metrics form one family."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.role, cell.metric), []).append(cell)
    rows, sums = [], []
    shuffled = [_averaged(members) for members in groups.values()]
    for (role, name), members in groups.items():
        row, by_document = _row(members, n_documents, recipe, seed)
        if not members[0].tested:
            row["reason"] = members[0].reason
        rows.append({"metric": name, "role": role} | row)
        sums.append(by_document)
    table = pd.DataFrame(rows)
    tested = [members[0].tested for members in groups.values()]
    family = ["" if role == "metric" else name for role, name in groups]
    family = [name if ok else None for name, ok in zip(family, tested)]
    for name in dict.fromkeys(name for name in family if name is not None):
        members = np.flatnonzero([f == name for f in family])
        _correct(
            table, members, [sums[i] for i in members], [shuffled[i] for i in members], recipe, seed
        )
    for column in ("verdict", "verdict_these_experts"):
        table.loc[[not ok for ok in tested], column] = equivalence.NOT_ESTIMABLE
    if recipe.equivalence is None:
        table = table.drop(columns=[*ABSENCE])
    return finish(table)


def _averaged(members: list[Cell]) -> Null:
    """The mean over layers of d_z with the metric's values on other experts; layers are shuffled apart."""
    known = [c.null for c in members if c.reason is None and c.null is not None]
    if not known:
        return none("experts were not shuffled")
    refused = [x.reason for x in known if x.reason is not None]
    if refused:
        return none(refused[0])
    mean = np.mean([x.statistic for x in known], axis=0)
    reach = abs(mean[0]) * (1 - 1e-9)
    return Null(mean, float((np.abs(mean) >= reach).mean()), sum(x.experts for x in known))


def _row(
    members: list[Cell], n_documents: int, recipe: Protocol, seed: int
) -> tuple[dict[str, Any], np.ndarray]:
    every = [Pairs(c.document, c.high, c.low, n_documents) for c in members]
    usable = [p.moments.n > 1 and not np.isnan(p.values("d_z")[0]) for p in every]
    layers = [p for p, ok in zip(every, usable) if ok]
    n = sum(p.moments.n for p in layers)
    present = np.zeros(n_documents, dtype=bool)
    for p in layers:
        present |= p.present
    d = int(present.sum())
    row: dict[str, Any] = {
        "n_layers": len(layers),
        "n_layers_dropped": len(every) - len(layers),
        "n": n,
        "n_documents": d,
        "n_dropped": sum(c.n_dropped for c in members),
        **dict.fromkeys(("d_z", "d_z_low", "d_z_high", "d_z_se", "null_se", "p_tost"), np.nan),
        **dict.fromkeys(("d_z_crossed_low", "d_z_crossed_high", "p_lengths"), np.nan),
        **dict.fromkeys((*BEYOND, "p_tost_crossed"), np.nan),
        **dict.fromkeys(("reason", "caution", "no_crossed", "too_few")),
    }
    if not layers or d < 2:
        why = "no layer gives a contrast" if not layers else f"only {d} document(s)"
        return row | {"reason": f"not poolable: {why}"}, np.zeros(n_documents)
    by_document = np.zeros(n_documents)
    for p in layers:
        difference, d_z = p.values("mean_difference")[0], p.values("d_z")[0]
        scale = difference / d_z if d_z != 0 else np.std(p.high - p.low, ddof=1)
        by_document += p.moments.difference_sums / (p.moments.n * scale * len(layers))
    estimate = float(np.mean([p.values("d_z")[0] for p in layers]))
    left = np.mean([p.values("d_z", leave_one_out(present)) for p in layers], axis=0)
    row["d_z"] = estimate
    if not np.isfinite(left).all():
        why = "leaving one document out leaves a layer without a spread"
        return row | {"reason": f"not poolable: {why}"}, np.zeros(n_documents)
    se = jackknife_se(left)
    # The spread at no effect, for planning: that of the scaled document sums themselves.
    spread = by_document[present]
    null_se = float(np.sqrt(d / (d - 1) * ((spread - spread.mean()) ** 2).sum()))
    if not (se > 0 and null_se > 0):
        why = "all documents have the same difference, so no spread"
        return row | {"reason": f"not poolable: {why}"}, np.zeros(n_documents)
    row["d_z_low"], row["d_z_high"] = _limits(layers, estimate, left, n_documents, recipe, seed)
    row["p_tost"] = adjusted_tost(estimate, left, recipe.d_z_bound)
    part = averaged([over_experts_of(c) for c, ok in zip(members, usable) if ok])
    limits = part.around(estimate, row["d_z_low"], row["d_z_high"], recipe.level)
    row |= {"d_z_crossed_low": limits[0], "d_z_crossed_high": limits[1], "no_crossed": part.reason}
    known, bound = Spread.of(left), recipe.d_z_bound
    row["p_beyond_these"] = p_beyond(estimate, known, bound)
    row["p_beyond"] = p_beyond(estimate, known, bound, around=part.around)
    row["p_tost_crossed"] = p_within(estimate, known, bound, around=part.around)
    tokens = np.sum([p.moments.sums[:, COUNT] for p in layers], axis=0)
    linked = p_lengths(by_document, tokens)
    row |= {"p_lengths": linked, "caution": caution(tokens, linked)}
    if recipe.withhold:  # layers share tokens, so these count once, as in a layer on average
        row["too_few"] = too_few(
            by_document,
            tokens,
            carriers=float(np.mean([carriers(p.high - p.low) for p in layers])),
            lean=float(np.mean([lean(p.high - p.low) for p in layers])),
            p_lengths=linked,
        )
    return row | {"d_z_se": se, "null_se": null_se}, by_document


def _limits(
    layers: list[Pairs],
    estimate: float,
    left: np.ndarray,
    n_documents: int,
    recipe: Protocol,
    seed: int,
) -> tuple[float, float]:
    """The protocol's interval; the analytic ones are the jackknife's here."""
    if recipe.interval == "adjusted":
        return adjusted_limits(estimate, left, recipe.level)
    if recipe.interval not in ("percentile", "bca"):
        return student_limits(estimate, jackknife_se(left), len(left) - 1, recipe.level)
    weights = document_weights(n_documents, recipe.n_boot, seed)
    draws = np.mean([p.values("d_z", weights) for p in layers], axis=0)
    draws = draws[np.isfinite(draws)]
    if recipe.interval == "bca":
        return bca_limits(estimate, draws, left, recipe.level)
    return percentile_limits(draws, recipe.level)


def _correct(
    table: pd.DataFrame,
    members: np.ndarray,
    sums: list[np.ndarray],
    shuffled: list[Null],
    recipe: Protocol,
    seed: int,
) -> None:
    flipped = max_t(
        np.stack(sums, axis=1),
        n_flips=recipe.n_flips,
        alpha=recipe.alpha,
        seed=seed,
        statistic=recipe.statistic,
    )
    part = table.loc[members]
    columns: dict[str, Any] = {"p": flipped.p_flip}
    columns |= {f"p_{m}": families.adjust(flipped.p_flip, m) for m in families.METHODS}
    columns["p_maxt"] = flipped.p_maxt
    columns |= {"family_size": len(members), "sesoi": recipe.d_z_bound}
    plan = {name: np.full(len(members), np.nan) for name in PLAN}
    level = recipe.alpha / len(members)
    for i, (null_se, d, n) in enumerate(zip(part["null_se"], part["n_documents"], part["n"])):
        if not null_se > 0:
            continue
        needed = power.documents_to_decide(null_se, d, recipe.d_z_bound, level, level, recipe.power)
        plan["power_at_sesoi"][i] = power.power_t(recipe.d_z_bound, null_se, float(d - 1), level)
        plan["mde"][i] = power.minimum_detectable(null_se, float(d - 1), level, recipe.power)
        plan["n_documents_to_decide"][i] = needed
        plan["n_to_decide"][i] = np.ceil(needed * n / d)
    columns |= plan
    tested = ("p_tost", "p_tost_crossed", *BEYOND)
    columns |= sized({name: part[name].to_numpy(float) for name in tested}, recipe)
    columns |= over_experts(list(shuffled))
    decision = columns[f"p_{recipe.decision}"]
    columns |= claims(decision, columns, part, recipe, np.full(len(members), recipe.d_z_bound))
    for name, values in columns.items():
        table.loc[members, name] = values
