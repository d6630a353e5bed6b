"""Across experts: does a metric rank a layer's experts by the harm their removal does?

This is the question of pruning. Its answer is bounded by how well the harm itself is known, so
the reliability of the harm (two halves of the documents) and its noise ceiling stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, one_of
from moeaudit.seeds import generator

from ..contrast.checks import metrics_table, positive, require_per_expert
from ..contrast.contrast import absent_metrics
from ..contrast.controls import CONTROLS, check_controls
from ..contrast.protocol import Protocol, get_protocol
from ..least import DOCUMENTS_FOR_HARM
from ..made import record
from ..sizes.bootstrap import document_weights
from .attenuation import Attenuation, of_half
from .correlation import kendall_limits, kendall_rows, spearman_limits, spearman_rows
from .harm import Harm, HarmSums, reliability
from .table import QUESTION, ranking_table

MIN_EXPERTS = 4
LEAST_REPLICATES = 20
SESOI = 0.3
UNRELIABLE = "halves of the documents do not agree on the harm of these experts"


def expert_harm(
    effects: Any,
    metrics: Any,
    *,
    outcome: str = "delta_nll",
    per: str = "active_token",
    protocol: str | Protocol = "moeaudit",
    controls: Sequence[str] = tuple(CONTROLS),
    layers: Sequence[int] | None = None,
    sesoi: float | int = SESOI,
    seed: int = 0,
    reasons: Mapping[str, str] | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Rank correlation, across the experts of a layer, of each metric with expected harm.

    Parameters
    ----------
    effects, metrics, outcome, protocol, controls, layers, reasons, settings
        As for `contrast`; the control gate_weight also needs the effects' `weight`. Shards are
        added up as they come: held is a sum for each document, layer and expert.
    per
        "active_token": mean outcome where the expert is active (nats per removal); "token": the
        same summed over where it is active, per token of text (what dropping it everywhere would
        cost if removals added up).
    sesoi
        Smallest rank correlation of interest.

    Returns
    -------
    One row per (metric, layer) and (control, layer).

    `rho` (Spearman) and `tau` (Kendall's tau-b) are correlations with the harm as measured, `_low`
    and `_high` their document bootstrap, corrected for the noise it adds; `_analytic_low` and
    `_analytic_high` take the experts as a sample instead. `rho_true` with its limits is the
    correlation with the harm itself: `rho` over the `ceiling`, which is the square root of the
    `reliability` of the harm (split-half) and the most a perfect metric could be seen to reach.
    It is null where halves of the documents do not agree (`caution` says so).

    `p` permutes the experts; then its corrections and `p_maxt` (step-down, one permutation for all
    metrics of a layer). `p_tost` and `p_equivalence` are against |rho_true| >= sesoi. `n_experts`,
    and `n_dropped`: experts active in fewer than 10 documents, or without a value.

    `mde` is the true correlation that would be found with the protocol's power, `power_at_sesoi` the
    power at sesoi, `n_documents_to_decide` and `n_experts_to_decide` what would decide the cell
    (`ranking_power.plan` gives the formulas). Often no number of documents would, since the experts
    are few; `no_plan` then says so.
    """
    recipe = get_protocol(protocol).with_(**settings)
    require_per_expert(effects)
    controls = check_controls(tuple(controls))
    one_of(per, ("active_token", "token"), "per=")
    positive(sesoi, "SESOI")
    gate = "gate_weight" in controls
    sums = HarmSums(effects, outcome, layers, weight=gate)
    if sums.n_documents < DOCUMENTS_FOR_HARM:
        raise InputError(
            f"The effects hold {sums.n_documents} document(s); harm per expert needs at "
            f"least {DOCUMENTS_FOR_HARM}, so that each half of the documents has two."
        )
    scores = metrics_table(metrics)
    named = scores["metric"].astype(str)
    names, absent = absent_metrics(
        recipe, list(dict.fromkeys(named)), set(named[scores["value"].notna()]), reasons
    )
    weights = document_weights(sums.n_documents, recipe.n_boot, seed)
    rows: list[dict[str, Any]] = []
    null: list[np.ndarray] = []
    for layer in sums.layers:
        harm = sums.harm(layer, per)
        mean_gate = sums.harm(layer, "active_token", "weight") if gate else None
        known = scores.loc[scores["layer"] == layer]
        questions = list(_questions(harm, known, names, controls, mean_gate, seed))
        shuffles = generator(seed, "experts", layer).permuted(
            np.tile(np.arange(len(harm.expert)), (recipe.n_flips, 1)), axis=1
        )
        whole = reliability(harm, seed)
        for name, role, score, target in questions:
            # The held-out score is set against the harm in the other half of the documents.
            noise = Attenuation(of_half(whole) if name == "heldout_causal" else whole)
            row, draws = _row(target, score, weights, shuffles, noise, recipe)
            row |= {"metric": name, "role": role, "layer": layer}
            if name in absent and role == "metric":
                row["reason"] = absent[name]
            rows.append(row)
            null.append(draws)
    table = ranking_table(rows, null, outcome, per, sesoi, recipe, [*names, *controls], absent)
    table.attrs = record(
        QUESTION, outcome, recipe, metrics=[n for n in names if n not in absent], layers=sums.layers,
        controls=controls, seed=seed, documents=sums.documents, scores=metrics, sesoi=float(sesoi), per=per,
    )  # fmt: skip
    return table


def _questions(
    harm: Harm,
    known: pd.DataFrame,
    names: list[str],
    controls: tuple[str, ...],
    gate: Harm | None,
    seed: int,
) -> Iterator[tuple[str, str, np.ndarray, Harm]]:
    """Each metric and control as a score per expert, and the harm it is held against."""
    for name in names:
        part = known[known["metric"] == name]
        score = part.set_index("expert")["value"].reindex(harm.expert).to_numpy(float)
        yield name, "metric", score, harm
    rng = generator(seed, "control", "random expert", harm.layer)
    n = len(harm.tokens)
    for name in controls:
        if name == "random":
            yield name, "control", rng.random(len(harm.expert)), harm
        elif name == "gate_weight" and gate is not None:
            yield name, "control", gate.mean(np.ones((1, n)))[0], harm
        elif name == "heldout_causal":
            half = generator(seed, "held out half", harm.layer).permutation(np.arange(n) % 2)
            rest = Harm(
                harm.layer,
                harm.expert,
                harm.total * half[:, None],
                harm.count * half[:, None],
                harm.tokens * half,
                harm.n_dropped,
                harm.per,
            )
            yield name, "control", harm.mean(1.0 - half[None])[0], rest


def _row(
    harm: Harm,
    score: np.ndarray,
    weights: np.ndarray,
    shuffles: np.ndarray,
    noise: Attenuation,
    recipe: Protocol,
) -> tuple[dict[str, Any], np.ndarray]:
    mean = harm.mean(np.ones((1, len(harm.tokens))))[0]
    use = ~np.isnan(score) & ~np.isnan(mean)
    row: dict[str, Any] = {
        "n": int(harm.count.sum()),
        "n_documents": int((harm.count.sum(axis=1) > 0).sum()),
        "n_experts": int(use.sum()),
        "n_dropped": harm.n_dropped + int((~use).sum()),
        "reliability": noise.reliability,
        "ceiling": noise.ceiling,
        "reason": _why_not(score[use], mean[use]),
        "caution": None if noise.known else UNRELIABLE,
    }
    keys = ("rho", "tau")
    for key in keys:
        row |= dict.fromkeys((key, *(f"{key}_{s}" for s in _LIMITS)), np.nan)
    row |= dict.fromkeys(("rho_true", "rho_true_low", "rho_true_high", "se", "p", "z"), np.nan)
    if row["reason"] is not None:
        return row, np.full(len(shuffles), np.nan)
    x, y = score[None, use], mean[use]
    replicates = harm.mean(weights)[:, use]
    replicates = replicates[~np.isnan(replicates).any(axis=1)]
    if len(replicates) < LEAST_REPLICATES:
        row["reason"] = (
            f"every expert occurs in only {len(replicates)} of {len(weights)} resamplings of the "
            "documents: too few for an interval"
        )
        return row, np.full(len(shuffles), np.nan)
    n = int(use.sum())
    for key, rows_of, limits in (
        ("rho", spearman_rows, spearman_limits),
        ("tau", kendall_rows, kendall_limits),
    ):
        estimate = float(rows_of(x, y[None])[0, 0])
        draws = rows_of(x, replicates)[:, 0]
        draws = draws[np.isfinite(draws)]
        low, high = noise.observed_limits(draws, recipe.level)
        a_low, a_high = limits(estimate, n, recipe.level)
        row |= dict(
            zip((key, *(f"{key}_{s}" for s in _LIMITS)), (estimate, low, high, a_low, a_high))
        )
        if key == "rho":
            row["rho_true"] = noise.true(estimate)
            row["rho_true_low"], row["rho_true_high"] = noise.true_limits(draws, recipe.level)
            row["se"] = noise.true_se(draws)
    # The order a shuffle of all experts induces on those in use is a uniform shuffle of them.
    places = np.argsort(shuffles[:, use], axis=1)
    null = np.abs(spearman_rows(x, y[places])[:, 0])
    row["p"] = float((1 + (null >= abs(row["rho"]) - 1e-12).sum()) / (1 + len(null)))
    # On one scale for layers with different numbers of experts.
    row["z"] = abs(row["rho"]) * np.sqrt(n - 1)
    return row, null * np.sqrt(n - 1)


_LIMITS = ("low", "high", "analytic_low", "analytic_high")


def _why_not(score: np.ndarray, mean: np.ndarray) -> str | None:
    if len(score) < MIN_EXPERTS:
        return f"only {len(score)} experts have both a value and harm; {MIN_EXPERTS} are needed"
    if np.ptp(score) == 0:
        return "the metric is the same for every expert"
    if np.ptp(mean) == 0:
        return "the expected harm is the same for every expert"
    return None
