"""The outcome regressed on a standardised metric, with layer effects and documents as clusters.

Unlike the contrast this uses every active expert of a token, not the two at the ends, and asks for
a slope: nats per standard deviation of the metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.seeds import generator

from ..contrast.cells import metric_score
from ..contrast.checks import metrics_table
from ..contrast.contrast import absent_metrics
from ..contrast.controls import (
    CONTROLS,
    check_controls,
    document_folds,
    heldout_score,
    random_score,
)
from ..contrast.protocol import Protocol, get_protocol
from ..contrast.slots import Census, Slots
from ..contrast.table import finish
from ..record.made import record
from ..sizes import power
from ..sizes.equivalence import THE_LAYER, THESE
from . import families
from .experts import Null, Shuffles, joint_p, none
from .fit import NOT_A_NUMBER, fit
from .slopes import slope_null

QUESTION = "regression over all layers"
MOST_TOKENS = 20_000  # that the mixed model is fitted to
MODELS = {
    "cluster": "ordinary least squares with layer effects, CR1 standard errors by document",
    "within_token": "the same with a mean for every token and layer taken off: experts of one "
    "token are compared with each other only",
    "mixed": "layer effects, and a random intercept and slope for every document (REML), or the "
    "intercept alone where the slope's variance has no optimum",
}


def regression(
    effects: Any,
    metrics: Any,
    *,
    outcome: str = "delta_nll",
    protocol: str | Protocol = "moeaudit",
    models: Sequence[str] = tuple(MODELS),
    controls: Sequence[str] = tuple(CONTROLS),
    layers: Sequence[int] | None = None,
    max_tokens: int = MOST_TOKENS,
    seed: int = 0,
    reasons: Mapping[str, str] | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Slope of the outcome on each metric, all layers together; parameters as `contrast`.

    A slope is held against no smallest effect of interest (its unit is the outcome per deviation of the
    metric): `sesoi` is only recorded, with the default that `contrast` has for the outcome.

    Parameters
    ----------
    models
        From `MODELS`.
    max_tokens
        The mixed model is fitted to at most this many tokens (drawn at random, the same for every
        metric); `n_dropped` counts the rows left out.

    Returns
    -------
    One row per metric (or control) and model: `slope` (outcome units per standard deviation of the
    metric over the layer's rows), `slope_se`, `slope_low`, `slope_high`, `p` (Student's t on
    documents - 1 for the first two models, the mixed model's own z for it), its corrections over
    the metrics of one model (`family_size` of them; a metric without any value has rows with its reason and
    is in no family), `mde` (the slope found with the protocol's power at alpha over the
    metrics; a bound in these units was not declared, so no n to decide), `random` (the random effects
    by document that could be fitted), `n`, `n_documents`, `n_dropped` (rows without a value, or not
    drawn). `p_experts` shuffles the metric over the experts of every layer (|slope| as large), and
    `p_experts_maxt` is its step-down max-T over the metrics of one model; `p` holds the experts fixed.
    `no_experts` says why there is none. `supports` says whom a slope speaks of where `p_holm` is at most
    the protocol's alpha: "experts of this layer" where `p_experts_maxt` is as well, else "these experts".
    Nothing is claimed where `too_few` says why documents are too few. `slope_crossed_low` and
    `slope_crossed_high` take experts as a sample as well (`no_crossed`: why null).
    """
    recipe = get_protocol(protocol).with_(**settings).settled((outcome,))
    controls = check_controls(tuple(controls))
    census = Census(effects, outcome, layers)
    scores = metrics_table(metrics)
    named = scores["metric"].astype(str)
    names, absent = absent_metrics(
        recipe, list(dict.fromkeys(named)), set(named[scores["value"].notna()]), reasons
    )
    tested = [n for n in names if n not in absent]
    every = [census.slots(layer) for layer in census.layers]
    rows, nulls = [], []
    shuffles = [Shuffles.of(slots, recipe.n_shuffles, seed) for slots in every]
    for role, name, score in _scores(every, scores, names, controls, recipe, seed):
        values = _values(every, scores, role, name, shuffles, seed)
        for model in models:
            row = fit(model, every, score, recipe, max_tokens, seed, number=values is not None)
            if name in absent and role == "metric":
                row["reason"] = absent[name]
            null = (
                none(NOT_A_NUMBER) if values is None else slope_null(every, values, shuffles, model)
            )
            row |= {"p_experts": null.p, "no_experts": null.reason}
            row["experts"] = null.experts if null.reason is None else np.nan
            rows.append({"metric": name, "role": role, "model": model} | row)
            nulls.append(null)
    result = pd.DataFrame(rows)
    result["p_experts_maxt"] = np.nan
    result.insert(0, "outcome", outcome)
    result.insert(0, "question", QUESTION)
    for model in models:
        mine = (result["model"] == model).to_numpy()
        metric = (result["role"] == "metric").to_numpy()
        in_family = mine & metric & result["metric"].isin(tested).to_numpy()
        _correct(result, np.flatnonzero(in_family), nulls, recipe)
        for i in np.flatnonzero(mine & ~metric):  # a control is a family of its own
            _correct(result, np.array([i]), nulls, recipe)
    result = finish(result)
    result.attrs = record(
        QUESTION, outcome, recipe, metrics=tested, layers=census.layers, controls=controls, seed=seed,
        documents=census.documents, scores=metrics, models=list(models), max_tokens=max_tokens,
    )  # fmt: skip
    return result


def _correct(
    table: pd.DataFrame, members: np.ndarray, nulls: Sequence[Null], recipe: Protocol
) -> None:
    """Fill the columns of one family: its corrections, what it could have found, whom it speaks of."""
    if len(members) == 0:
        return
    part, size = table.loc[members], len(members)
    p = part["p"].to_numpy(float)
    columns: dict[str, Any] = {f"p_{m}": families.adjust(p, m) for m in families.METHODS}
    columns["p_experts_maxt"] = joint_p([nulls[i] for i in members])
    if size == 1:
        columns["p_experts_maxt"] = part["p_experts"].to_numpy(float)
    columns["family_size"] = float(size)
    columns["mde"] = [
        power.minimum_detectable(se, float(d - 1), recipe.alpha / size, recipe.power)
        if se > 0
        else np.nan
        for se, d in zip(part["slope_se"], part["n_documents"])
    ]
    shown = (columns["p_holm"] <= recipe.alpha) & part["too_few"].isna().to_numpy()
    luck = columns["p_experts_maxt"]
    columns["supports"] = [
        None if not sure else THE_LAYER if by_chance <= recipe.alpha else THESE
        for sure, by_chance in zip(shown, luck)
    ]
    for name, values in columns.items():
        table.loc[members, name] = values


def _values(
    every: list[Slots],
    scores: pd.DataFrame,
    role: str,
    name: str,
    shuffles: list[Shuffles],
    seed: int,
) -> list[np.ndarray] | None:
    """By layer, one number for each active expert; None for a control that is no such number."""
    if name == "random_score" and role == "control":
        return [random_score(s, seed)[x.expert] for s, x in zip(every, shuffles)]
    if role == "control":
        return None
    part = scores.loc[scores["metric"].astype(str) == name]
    return [
        part.loc[part["layer"] == s.layer]
        .set_index("expert")["value"]
        .reindex(x.expert)
        .to_numpy(float)
        for s, x in zip(every, shuffles)
    ]


def _scores(
    every: list[Slots],
    scores: pd.DataFrame,
    names: list[str],
    controls: tuple[str, ...],
    recipe: Protocol,
    seed: int,
) -> Iterator[tuple[str, str, list[np.ndarray]]]:
    for name in names:
        part = scores.loc[scores["metric"] == name]
        by_layer = []
        for slots in every:
            mine = part.loc[part["layer"] == slots.layer]
            expert, value = mine["expert"].to_numpy(np.int64), mine["value"].to_numpy(np.float64)
            by_layer.append(metric_score(slots, expert, value))
        yield "metric", name, by_layer
    for name in controls:
        if name == "random":
            rng = generator(seed, "control", "random slope")
            yield "control", name, [rng.random(s.expert.shape) for s in every]
        elif name == "gate_weight":
            ranks = [-np.arange(s.expert.shape[1], dtype=float) for s in every]
            yield (
                "control",
                name,
                [np.broadcast_to(r, s.expert.shape) for r, s in zip(ranks, every)],
            )
        elif name == "random_score":
            drawn = [random_score(s, seed) for s in every]
            yield (
                "control",
                name,
                [np.where(s.present, x[s.expert], np.nan) for s, x in zip(every, drawn)],
            )
        elif every[0].n_documents < 2:  # no other document to score an expert by
            yield "control", name, [np.full(s.expert.shape, np.nan) for s in every]
        else:
            folds = document_folds(every[0].n_documents, recipe.n_folds, seed)
            yield "control", name, [heldout_score(s, folds) for s in every]
