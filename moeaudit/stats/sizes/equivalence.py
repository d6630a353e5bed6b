"""Absence of effect as a claim of its own: two one-sided tests, and the four verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from moeaudit.errors import InputError

from ..contrast.checks import positive

PREDICTIVE = "predictive"
REVERSED = "reversed"
EQUIVALENT = "equivalent to none"
INCONCLUSIVE = "inconclusive"
NOT_ESTIMABLE = "not estimable"
VERDICTS = {
    PREDICTIVE: "removing the higher-scored expert costs more; corrected over the family",
    REVERSED: "removing the higher-scored expert costs less; corrected over the family",
    EQUIVALENT: "any effect is smaller than the smallest effect of interest",
    INCONCLUSIVE: "the data can neither show an effect nor rule one out",
    NOT_ESTIMABLE: "no number can be given; the reason says why",
}


@dataclass(frozen=True)
class Tost:
    """`p_above`: against effect <= -sesoi; `p_below`: against effect >= sesoi; `p` their maximum."""

    p_above: float
    p_below: float
    p: float


def tost(estimate: float | int, se: float | int, dof: float | int, sesoi: float | int) -> Tost:
    """Two one-sided t tests against a smallest effect of interest (Schuirmann 1987).

    Equivalence at level alpha holds when p <= alpha, which is when the 1 - 2 alpha interval lies
    within (-sesoi, sesoi). `estimate`, `se` and `sesoi` are in the same units.
    """
    positive(sesoi, "SESOI")
    if not se > 0:
        raise InputError(f"The standard error is {se}; equivalence needs a positive one.")
    above = float(stats.t.sf((estimate + sesoi) / se, dof))
    below = float(stats.t.cdf((estimate - sesoi) / se, dof))
    return Tost(above, below, max(above, below))


def verdict(p_effect: float, p_equivalence: float, estimate: float, alpha: float) -> str:
    """One of the four verdicts from family-adjusted p-values.

    Equivalence is asked first: with enough tokens a difference can be both real and smaller than
    anything worth acting on, and then what matters is that it is small (the p of the effect is
    still in the table). A cell without a p is "not estimable".
    """
    if np.isnan(p_effect):
        return NOT_ESTIMABLE
    if p_equivalence <= alpha:  # False for NaN: no equivalence was shown
        return EQUIVALENT
    if p_effect <= alpha:
        return PREDICTIVE if estimate > 0 else REVERSED
    return INCONCLUSIVE
