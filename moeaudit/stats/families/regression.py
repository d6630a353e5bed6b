"""The outcome regressed on a standardised metric, with layer effects and documents as clusters.

Unlike the contrast this uses every active expert of a token, not the two at the ends, and asks for
a slope: nats per standard deviation of the metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.seeds import generator

from ..contrast.cells import metric_score
from ..contrast.checks import metrics_table
from ..contrast.controls import (
    CONTROLS,
    check_controls,
    document_folds,
    heldout_score,
    random_score,
)
from ..contrast.protocol import Protocol, choose_metrics, get_protocol
from ..contrast.slots import Census, Slots
from ..contrast.table import finish
from ..few import carriers, too_few
from ..made import record
from ..sizes import power
from . import families
from .crossed import slope_over_experts, unknown
from .experts import Shuffles, joint_p, none
from .mixed import mixed
from .slopes import slope_null

NOT_A_NUMBER = "not one number of each expert"
QUESTION = "regression over all layers"
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
    max_tokens: int = 20_000,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Slope of the outcome on each metric, all layers together; parameters as `contrast`.

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
    the metrics of one model, `mde` (the slope found with the protocol's power at alpha over the
    metrics; a bound in these units was not declared, so no n to decide), `random` (the random effects
    by document that could be fitted), `n`, `n_documents`, `n_dropped` (rows without a value, or not
    drawn). `p_experts` shuffles the metric over the experts of every layer (|slope| as large), and
    `p_experts_maxt` is its step-down max-T over the metrics of one model; `p` holds the experts fixed.
    `no_experts` says why there is none. `slope_crossed_low` and `slope_crossed_high` take experts as a
    sample as well (`no_crossed`: why null); `too_few` says why documents are too few for any claim.
    """
    recipe = get_protocol(protocol).with_(**settings)
    controls = check_controls(tuple(controls))
    census = Census(effects, outcome, layers)
    scores = metrics_table(metrics)
    names = choose_metrics(recipe, list(dict.fromkeys(scores["metric"].astype(str))))
    every = [census.slots(layer) for layer in census.layers]
    rows, nulls = [], []
    shuffles = [Shuffles.of(slots, recipe.n_shuffles, seed) for slots in every]
    for role, name, score in _scores(every, scores, names, controls, recipe, seed):
        values = _values(every, scores, role, name, shuffles, seed)
        for model in models:
            row = _fit(model, every, score, recipe, max_tokens, seed, number=values is not None)
            null = (
                none(NOT_A_NUMBER) if values is None else slope_null(every, values, shuffles, model)
            )
            row |= {"p_experts": null.p, "no_experts": null.reason}
            row["experts"] = null.experts if null.reason is None else np.nan
            rows.append({"metric": name, "role": role, "model": model} | row)
            nulls.append(null)
    result = pd.DataFrame(rows)
    result["p_experts_maxt"] = np.nan
    for model in models:
        for role in ("metric", "control"):  # a control is a family of its own
            mine = np.flatnonzero((result["model"] == model) & (result["role"] == role))
            p = joint_p([nulls[i] for i in mine])
            result.loc[mine, "p_experts_maxt"] = (
                p if role == "metric" else result.loc[mine, "p_experts"].to_numpy(float)
            )
    result.insert(0, "outcome", outcome)
    result.insert(0, "question", QUESTION)
    for model in models:
        members = np.flatnonzero((result["model"] == model) & (result["role"] == "metric"))
        alone = np.flatnonzero((result["model"] == model) & (result["role"] == "control"))
        for method in families.METHODS:
            p = families.adjust(result["p"].to_numpy(float)[members], method)
            result.loc[members, f"p_{method}"] = p
            result.loc[alone, f"p_{method}"] = result.loc[alone, "p"]
    result["mde"] = [
        power.minimum_detectable(se, float(d - 1), recipe.alpha / size, recipe.power)
        if se > 0
        else np.nan
        for se, d, size in zip(
            result["slope_se"],
            result["n_documents"],
            np.where(result["role"] == "metric", len(names), 1),
        )
    ]
    result = finish(result)
    result.attrs = record(
        QUESTION, outcome, recipe, metrics=names, layers=census.layers, controls=controls, seed=seed,
        documents=census.documents, scores=metrics, models=list(models), max_tokens=max_tokens,
    )  # fmt: skip
    return result


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


def _rows(
    every: list[Slots], score: list[np.ndarray], within: bool, keep: list[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Outcome, standardised metric, layer place, document and expert of every usable row; the means of
    layers (or of tokens, if `within`) are taken off."""
    parts = []
    for place, (slots, x, tokens) in enumerate(zip(every, score, keep)):
        use = slots.present & ~np.isnan(x) & tokens[:, None]
        y, z = slots.value, np.where(use, x, np.nan)
        scored = z[use]
        if len(scored) == 0 or np.ptp(scored) == 0:
            continue
        z = (z - scored.mean()) / scored.std()
        y = y - y[use].mean()
        if within:
            count = np.maximum(use.sum(axis=1, keepdims=True), 1)
            y = y - np.where(use, y, 0).sum(axis=1, keepdims=True) / count
            z = z - np.where(use, z, 0).sum(axis=1, keepdims=True) / count
        document = np.broadcast_to(slots.document[:, None], use.shape)
        expert = slots.expert[use] + place * (1 << 20)  # experts of two layers are different ones
        parts.append((y[use], z[use], np.full(int(use.sum()), place), document[use], expert))
    if not parts:
        return tuple(np.empty(0) for _ in range(5))
    return tuple(np.concatenate(column) for column in zip(*parts))


def _fit(
    model: str,
    every: list[Slots],
    score: list[np.ndarray],
    recipe: Protocol,
    cap: int,
    seed: int,
    *,
    number: bool,
) -> dict[str, Any]:
    offered = sum(int(s.present.sum()) for s in every)
    keep = [np.ones(len(s.document), dtype=bool) for s in every]
    total = sum(len(s.document) for s in every)
    if model == "mixed" and total > cap:
        rngs = [generator(seed, "mixed tokens", s.layer) for s in every]
        keep = [r.random(len(s.document)) < cap / total for r, s in zip(rngs, every)]
    y, x, layer, document, expert = _rows(every, score, model == "within_token", keep)
    d = len(np.unique(document))
    row: dict[str, Any] = {"n": len(y), "n_documents": d, "n_dropped": offered - len(y)}
    row |= dict.fromkeys(("slope", "slope_se", "slope_low", "slope_high", "p"), np.nan)
    row |= {"random": "none", "too_few": None, "no_crossed": "no slope"}
    row |= dict.fromkeys(("slope_crossed_low", "slope_crossed_high"), np.nan)
    if len(y) == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return row | {"reason": "the metric or the outcome does not vary within any layer"}
    if d < 2:
        return row | {"reason": "a slope by document needs at least 2 documents, and has 1"}
    if model == "mixed":
        dummies = (layer[:, None] == np.unique(layer)).astype(np.float64)
        fit: Any = mixed(y, np.column_stack([x, dummies]), x, document)
        if fit is None or not fit.converged:
            return row | {
                "reason": "the mixed model has no optimum on so few or such equal effects"
            }
    else:
        # Layer (or token) means are already off both sides, which gives the same slope as dummies
        # for them (Frisch, Waugh & Lovell).
        import statsmodels.api as sm

        fit = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": document}, use_t=True)
    low, high = fit.conf_int(alpha=1 - recipe.level)[0]
    numbers = (fit.params[0], fit.bse[0], low, high, fit.pvalues[0])
    names = ("slope", "slope_se", "slope_low", "slope_high", "p")
    row |= {n: float(v) for n, v in zip(names, numbers)}
    if not number:
        part = unknown(NOT_A_NUMBER)
    elif model == "mixed":
        part = unknown("the mixed model has documents as its only random effects")
    else:
        part = slope_over_experts(x, y, expert, document)
    crossed = part.around(row["slope"], low, high, recipe.level)
    row |= {"slope_crossed_low": crossed[0], "slope_crossed_high": crossed[1]}
    if recipe.withhold:
        row["too_few"] = _few(x * y, document, len(np.unique(layer)))
    row |= {"no_crossed": part.reason, "random": getattr(fit, "random", "none")}
    return row | {"reason": None}


def _few(products: np.ndarray, document: np.ndarray, layers: int) -> str | None:
    """`too_few` of what rows add to a slope; layers share tokens, which so count once."""
    code = np.unique(document, return_inverse=True)[1]
    rows, carried = np.bincount(code), carriers(products) / layers
    return too_few(np.bincount(code, products), rows, carriers=carried)
