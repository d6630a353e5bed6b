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
from moeaudit.frames.waiting import counting
from moeaudit.seeds import generator

from ..contrast.checks import metrics_table, positive, require_per_expert
from ..contrast.contrast import absent_metrics
from ..contrast.controls import CONTROLS, check_controls
from ..contrast.protocol import Protocol, get_protocol
from ..families.selected import halvings
from ..least import DOCUMENTS_FOR_HARM
from ..record.made import record
from ..record.shown import Contrasts
from ..sizes.bootstrap import document_weights
from .harm import Harm, HarmSums
from .reliability import attenuation
from .row import Draws, Ranked, ranked
from .table import QUESTION, ranking_table

SESOI = 0.3


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
    `reliability` of the harm (split-half) and about what a perfect metric would be seen to reach. The
    ceiling is an estimate too, with limits over documents (`ceiling_low`, `ceiling_high`), and a metric
    may be seen above it: a `caution` says so. `rho_true` is null where halves of the documents do not
    agree (`caution` says so). `rho_given_use` is the partial rank correlation given how often the
    experts were active, or null with `no_given_use`.

    `p` permutes the experts; then its corrections and `p_maxt` (step-down, one permutation for all
    metrics of a layer). `p_documents` (Student's t on the bootstrap's standard error) holds the experts
    fixed and asks whether other documents could take the correlation away, `p_documents_maxt` corrects
    it over the family. The size, |rho_true| against sesoi, has tests of its own: `p_beyond` that it is above,
    `p_tost_crossed` and its correction `p_equivalence_crossed` that it is below, with documents and experts as
    samples and the ceiling's limits carried (`size.Size`; `rho_true_crossed_low` and `_high` are the same
    limits at the protocol's level); `p_beyond_these`, `p_tost` and `p_equivalence` by documents alone.
    Where the ceiling is not shown to be above zero the size stays open (`no_crossed`). `verdict` needs
    both p, `verdict_these_experts` documents alone, and `supports` says whom a row speaks of; see
    `equivalence.VERDICTS`. `largest_held_out`, one number for a family, is what its largest |rho|,
    picked in one half of the documents, shows in the other (`families.selected`), on the scale of all
    documents; `metric_largest_held_out` the same among the layers of one metric. `n_experts`,
    and `n_dropped`: experts active in fewer than 10 documents, or without a value.

    `mde` is the true correlation that would be found with the protocol's power, `power_at_sesoi` the
    power at sesoi, `n_documents_to_decide` and `n_experts_to_decide` what would decide the cell
    (`ranking_power.plan` gives the formulas). Often no number of documents would, since the experts
    are few; `no_plan` then says so.

    Raises
    ------
    InputError
        As `contrast` does, and for `per` and `sesoi` that are no choice.
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
    halves = halvings(sums.n_documents, seed)
    cells: list[Ranked] = []
    with counting(None, f"expert harm of {outcome}", len(sums.layers), "layers") as tell:
        for layer in sums.layers:
            harm = sums.harm(layer, per)
            mean_gate = sums.harm(layer, "active_token", "weight") if gate else None
            known = scores.loc[scores["layer"] == layer]
            questions = list(_questions(harm, known, names, controls, mean_gate, seed))
            shuffles = generator(seed, "experts", layer).permuted(
                np.tile(np.arange(len(harm.expert)), (recipe.n_flips, 1)), axis=1
            )
            draws = Draws(weights, shuffles, halves)
            whole = attenuation(harm, seed, recipe.level)
            for name, role, score, target in questions:
                # The held-out score is set against the harm in the other half of the documents.
                noise = whole.of_halves if name == "heldout_causal" else whole
                cell = ranked(target, score, draws, noise, recipe)
                cell.row.update({"metric": name, "role": role, "layer": layer})
                if name in absent and role == "metric":
                    cell.row["reason"] = absent[name]
                cells.append(cell)
            tell(1)
    found = ranking_table(cells, outcome, per, sesoi, recipe, [*names, *controls], absent)
    table = Contrasts.of(found)
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
