"""One slope: the outcome's rows on a standardised metric, by each of the models of `regression`."""

from __future__ import annotations

from typing import Any

import numpy as np

from moeaudit.seeds import generator

from ..contrast.protocol import Protocol
from ..contrast.slots import Slots
from ..few import carriers, lean, too_few
from ..sizes.lengths import p_lengths
from .crossed import slope_over_experts, unknown
from .mixed import mixed

NOT_A_NUMBER = "not one number of each expert"


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


def fit(
    model: str,
    every: list[Slots],
    score: list[np.ndarray],
    recipe: Protocol,
    cap: int,
    seed: int,
    *,
    number: bool,
) -> dict[str, Any]:
    """The row of one metric and model; `score` is the metric of every slot (NaN where it has none), by
    layer. The mixed model sees at most about `cap` tokens; `number`: the score is one number an expert."""
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
        found: Any = mixed(y, np.column_stack([x, dummies]), x, document)
        if found is None or not found.converged:
            return row | {
                "reason": "the mixed model has no optimum on so few or such equal effects"
            }
    else:
        # Layer (or token) means are already off both sides, which gives the same slope as dummies
        # for them (Frisch, Waugh & Lovell).
        import statsmodels.api as sm

        found = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": document}, use_t=True)
    low, high = found.conf_int(alpha=1 - recipe.level)[0]
    numbers = (found.params[0], found.bse[0], low, high, found.pvalues[0])
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
    row |= {"no_crossed": part.reason, "random": getattr(found, "random", "none")}
    return row | {"reason": None}


def _few(products: np.ndarray, document: np.ndarray, layers: int) -> str | None:
    """`too_few` of what rows add to a slope; layers share tokens, which so count once."""
    code = np.unique(document, return_inverse=True)[1]
    rows, carried = np.bincount(code), carriers(products) / layers
    sums = np.bincount(code, products)
    return too_few(
        sums,
        rows,
        carriers=carried,
        lean=lean(products),
        p_lengths=p_lengths(sums, rows.astype(float)),
    )
