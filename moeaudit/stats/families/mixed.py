"""The mixed model of a slope: a random intercept and slope for every document, by REML."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


def mixed(y: np.ndarray, design: np.ndarray, x: np.ndarray, document: np.ndarray) -> Any:
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
