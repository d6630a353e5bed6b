"""One slope: the outcome's rows on a standardised metric, by each of the models of `regression`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from moeaudit.seeds import generator

from ..contrast.protocol import Protocol
from ..contrast.slots import Slots


def _rows(
    every: list[Slots], score: list[np.ndarray], within: bool, keep: list[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Outcome, standardised metric, layer place and document of every usable row; the means of
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
        parts.append((y[use], z[use], np.full(int(use.sum()), place), document[use]))
    if not parts:
        return tuple(np.empty(0) for _ in range(4))
    return tuple(np.concatenate(column) for column in zip(*parts))


def fit(
    model: str, every: list[Slots], score: list[np.ndarray], recipe: Protocol, cap: int, seed: int
) -> dict[str, Any]:
    """The row of one metric and model; `score` is the metric of every slot (NaN where it has none), by
    layer. The mixed model sees at most about `cap` tokens."""
    offered = sum(int(s.present.sum()) for s in every)
    keep = [np.ones(len(s.document), dtype=bool) for s in every]
    total = sum(len(s.document) for s in every)
    if model == "mixed" and total > cap:
        rngs = [generator(seed, "mixed tokens", s.layer) for s in every]
        keep = [r.random(len(s.document)) < cap / total for r, s in zip(rngs, every)]
    y, x, layer, document = _rows(every, score, model == "within_token", keep)
    d = len(np.unique(document))
    row: dict[str, Any] = {"n": len(y), "n_documents": d, "n_dropped": offered - len(y)}
    row |= dict.fromkeys(("slope", "slope_se", "slope_low", "slope_high", "p"), np.nan)
    row["random"] = "none"
    if len(y) == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return row | {"reason": "the metric or the outcome does not vary within any layer"}
    if d < 2:
        return row | {"reason": "a slope by document needs at least 2 documents, and has 1"}
    if model == "mixed":
        dummies = (layer[:, None] == np.unique(layer)).astype(np.float64)
        found: Any = _mixed(y, np.column_stack([x, dummies]), x, document)
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
    return row | {"random": getattr(found, "random", "none"), "reason": None}


def _mixed(y: np.ndarray, design: np.ndarray, x: np.ndarray, document: np.ndarray) -> Any:
    """Random intercept and slope by document, or the intercept alone where that has no optimum.

    A variance estimated as zero is an answer here, not a fault, so statsmodels' warnings about the
    boundary are not passed on.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    scale = float(y.std())
    ones = np.ones_like(x)
    found: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for random, name in (
            (np.column_stack([ones, x]), "intercept and slope"),
            (ones, "intercept"),
        ):
            try:
                fit: Any = MixedLM(y / scale, design, groups=document, exog_re=random).fit()
            except np.linalg.LinAlgError:  # a design that cannot be inverted: no such model
                continue
            found = _Scaled(fit, scale, name)
            if found.converged:
                break
    return found


class _Scaled:
    """A fit of y / scale, read in the units of y."""

    def __init__(self, fit: Any, scale: float, random: str) -> None:
        self.random = random
        self.converged = bool(fit.converged) and bool(np.isfinite(fit.bse_fe[0]))
        self.params = np.asarray(fit.fe_params) * scale
        self.bse = np.asarray(fit.bse_fe) * scale
        self.pvalues = np.asarray(fit.pvalues)[: len(self.params)]
        self._limits = fit.conf_int
        self._scale = scale

    def conf_int(self, alpha: float) -> np.ndarray:
        return np.asarray(self._limits(alpha)) * self._scale
