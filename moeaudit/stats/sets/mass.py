"""Removed sets against sets of equal routed mass: is it *these* experts, or how much of the mixture went?

A set of experts that a metric names may matter more than another because the router gives it more weight.
The control is a random other set of the same token, of the same size and nearly the same gate weight. With
sets of one, the census of an audit has all that is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.seeds import generator

from ..contrast.checks import fraction, metrics_table
from ..families.families import adjust
from ..families.maxt import sign_flip_p
from ..few import carriers, lean, too_few
from ..nullable import nullable
from ..sizes.effect_sizes import Pairs
from ..sizes.equivalence import graded
from ..sizes.lengths import p_lengths
from ..sizes.limits import adjusted_limits
from ..sizes.paired import cluster_t
from .removed import TOKEN, SetEffects, by_layer, removed_sets, set_size

NUMBERS = ("difference", "d_z", "d_z_low", "d_z_high", "p", "mass", "mass_control")
COUNTS = ("layer", "size", "n", "n_documents", "n_dropped")
TEXT = ("verdict_these_experts", "supports", "too_few", "reason")
RANDOM_SCORE = "random_score"


def equal_mass(
    effects: Any,
    metrics: Any,
    *,
    size: int = 2,
    outcome: str = "delta_nll",
    within: float | int = 0.1,
    seed: int = 0,
    level: float | int = 0.95,
    alpha: float | int = 0.05,
) -> pd.DataFrame:
    """Removing a token's `size` highest-scored active experts against a random set of equal routed mass.

    Parameters
    ----------
    effects
        Of `ablate(model, docs, Coalitions((1, size)))` or `Coalitions()`; with `size=1` also of single experts,
        such as a run's. The gate weights come from the rows of single experts.
    metrics
        layer, expert, metric, value, from other documents.
    size
        Experts removed together; fewer than are active.
    within
        How far the control's mass may be from the set's, as a share of it. Among all sets that are near
        enough one is drawn at random; a token without any is dropped, and counted.
    alpha
        Error rate of the family: all metrics and layers. The control row is a family of its own.

    Returns
    -------
    One row per metric and layer, and per layer for a random score of each expert (`role` "control"):
    `difference` (the set less its control, in units of the outcome), `d_z` with document limits, `p` by
    sign-flips of documents (the test of `contrast`) and `p_holm`, the mean `mass` (sum of gate weights) of both,
    `n` tokens, `n_documents`, `n_dropped` (no set of nearly that mass, or no clear highest set).
    `verdict_these_experts` is "present, size open" where p_holm shows a difference, else "inconclusive", or says
    that documents are too few, and `too_few` why. It speaks of these experts alone: they are not shuffled.
    Null numbers have a `reason`.

    Raises InputError for a size that leaves no other set, and for a table without these sets.
    """
    fraction(within, "within")
    known, rows = metrics_table(metrics), []
    frame = removed_sets(effects, outcome, alone=size == 1)
    for sets in by_layer(frame, outcome):
        layer = int(sets.tokens["layer"].iloc[0])
        if not 1 <= size < sets.top_k:
            raise InputError(
                f"size={size} of the {sets.top_k} active experts of layer {layer} leaves no other set to compare "
                f"with. Name a size from 1 to {sets.top_k - 1}."
            )
        masks = [m for m in range(1, 1 << sets.top_k) if set_size(np.array([m]))[0] == size]
        sets.need(
            [*masks, *(1 << r for r in range(sets.top_k))],
            "equal_mass()",
            f"Coalitions((1, {size}))",
        )
        gate, document = _gate(frame, sets), sets.tokens["document"].to_numpy()
        rng = generator(seed, "equal mass", layer)
        tie = rng.random((len(gate), len(masks)))
        scores = [
            (str(name), "metric", _score(sets, pd.DataFrame(part)))
            for name, part in known[known["layer"] == layer].groupby("metric", sort=False)
        ]
        dice = generator(seed, "control", "random score", layer).random(int(sets.expert.max()) + 1)
        scores.append((RANDOM_SCORE, "control", dice[sets.expert]))
        for name, role, score in scores:
            chosen, control = _choose(score, gate, masks, within, tie)
            rows.append(
                {"metric": name, "role": role, "layer": layer}
                | _row(sets, masks, gate, document, chosen, control, level, seed)
            )
    table = pd.DataFrame(rows)
    table.insert(0, "outcome", outcome)
    for _, family in table.groupby("role", sort=False).groups.items():
        table.loc[family, "p_holm"] = adjust(table.loc[family, "p"].to_numpy(float), "holm")
    said = [_said(row, alpha) for row in table.to_dict("records")]
    table["verdict_these_experts"], table["supports"] = zip(*said)
    return nullable(table, COUNTS, TEXT)


def _said(row: dict[str, Any], alpha: float | int) -> tuple[str, str | None]:
    """What documents show of these experts; how large it is, is not asked."""
    limits = (row["d_z"], row["d_z_low"], row["d_z_high"])
    p = row["p"] if np.isnan(row["p"]) else row["p_holm"]
    few = row["too_few"] is not None
    return graded(p, np.nan, *limits, bound=0, alpha=alpha, p_beyond=np.nan, few=few)


def _gate(frame: pd.DataFrame, sets: SetEffects) -> np.ndarray:
    """Gate weight of each rank: (tokens, top_k), from the rows of single experts."""
    layer = sets.tokens["layer"].iloc[0]
    alone = frame[(frame["layer"] == layer) & (set_size(frame["members"].to_numpy(np.int64)) == 1)]
    wide = alone.pivot(index=TOKEN, columns="rank", values="weight").sort_index()
    return wide.to_numpy(np.float64)


def _score(sets: SetEffects, part: pd.DataFrame) -> np.ndarray:
    """The metric of each rank's expert: (tokens, top_k), NaN where it has no value."""
    known = part.set_index("expert")["value"]
    return known.reindex(sets.expert.ravel()).to_numpy(float).reshape(sets.expert.shape)


def _choose(
    score: np.ndarray, gate: np.ndarray, masks: list[int], within: float, tie: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places in `masks` of the highest-scored set and of its control, by token; -1 where there is none."""
    member = (np.array(masks)[:, None] >> np.arange(score.shape[1]) & 1).astype(float)
    size = int(member[0].sum())
    known = ~np.isnan(score).any(axis=1)
    order = np.argsort(-np.where(known[:, None], score, 0.0), axis=1, kind="stable")  # pyright: ignore[reportIndexIssue]
    ordered = np.take_along_axis(score, order, axis=1)
    clear = known & (ordered[:, size - 1] > ordered[:, size])
    highest = (1 << order[:, :size]).sum(axis=1)
    chosen = np.where(clear, np.searchsorted(masks, highest), -1)
    mass = np.asarray(gate @ member.T)  # (tokens, sets)
    own = mass[np.arange(len(mass)), chosen]
    near = np.asarray(np.abs(mass - own[:, None]) <= within * np.abs(own)[:, None])
    near[np.arange(len(mass)), chosen] = False
    control = np.where(near, tie, -1.0).argmax(axis=1)
    return chosen, np.where(clear & near.any(axis=1), control, -1)


def _row(
    sets: SetEffects,
    masks: list[int],
    gate: np.ndarray,
    document: np.ndarray,
    chosen: np.ndarray,
    control: np.ndarray,
    level: float,
    seed: int,
) -> dict[str, Any]:
    use = np.flatnonzero(control >= 0)
    value = np.stack([sets.of(mask) for mask in masks], axis=1)
    high, low = value[use, chosen[use]], value[use, control[use]]
    member = (np.array(masks)[:, None] >> np.arange(gate.shape[1]) & 1).astype(float)
    mass = gate @ member.T
    row: dict[str, Any] = {"size": int(member[0].sum()), "n": len(use)}
    codes = np.unique(document[use], return_inverse=True)[1]
    row |= {"n_documents": int(codes.max(initial=-1)) + 1, "n_dropped": len(document) - len(use)}
    row |= dict.fromkeys(NUMBERS, np.nan) | {"too_few": None}
    if len(use) == 0:
        return row | {"reason": "no token has another set of nearly the same routed mass"}
    pairs = Pairs(codes, high, low, row["n_documents"])
    row["difference"] = float((high - low).mean())
    row["mass"] = float(mass[use, chosen[use]].mean())
    row["mass_control"] = float(mass[use, control[use]].mean())
    sums, tokens = np.bincount(codes, high - low), np.bincount(codes)
    if reason := _untestable(pairs, sums):
        return row | {"reason": reason}
    estimate = float(pairs.values("d_z")[0])
    limits = adjusted_limits(estimate, pairs.jackknife("d_z"), level)
    few = too_few(
        sums,
        tokens,
        carriers=carriers(high - low),
        lean=lean(high - low),
        p_lengths=p_lengths(sums, tokens),
    )
    return (
        row
        | dict(zip(("d_z", "d_z_low", "d_z_high"), (estimate, *limits)))
        | {"p": sign_flip_p(sums, seed=seed), "too_few": few, "reason": None}
    )


def _untestable(pairs: Pairs, sums: np.ndarray) -> str | None:
    if (reason := cluster_t(pairs.moments).reason) is not None:
        return reason
    with_effects = np.count_nonzero(sums)
    return None if with_effects >= 2 else f"{with_effects} documents differ; sign-flips need 2"
