"""Absence of effect as a claim of its own: two one-sided tests, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from moeaudit.errors import InputError

from ..contrast.checks import positive

PREDICTIVE = "predictive"
REVERSED = "reversed"
OPEN = "present, size open"
BELOW = "present but below"
EQUIVALENT = "equivalent to none"
INCONCLUSIVE = "inconclusive"
TOO_FEW = "too few documents to say"
NOT_ESTIMABLE = "not estimable"
VERDICTS = {
    PREDICTIVE: "removing the higher-scored expert costs more, by more than the smallest effect of "
    "interest, with experts as a sample too; corrected over the family",
    REVERSED: "removing the higher-scored expert costs less, by more than the smallest effect of "
    "interest, with experts as a sample too; corrected over the family",
    OPEN: "there is an effect, and with experts as a sample too it is not shown to be above or below the "
    "smallest effect of interest",
    BELOW: "there is an effect, and with experts as a sample too it is smaller than the smallest effect of "
    "interest",
    EQUIVALENT: "no effect of the metric is shown, and with experts as a sample too any is smaller than the "
    "smallest effect of interest",
    INCONCLUSIVE: "the data can neither show an effect nor rule one out",
    TOO_FEW: "documents, or what carries the effects in them, are below the measured limits of a verdict",
    NOT_ESTIMABLE: "no number can be given; the reason says why",
}
SHOWN = (PREDICTIVE, REVERSED, OPEN, BELOW)  # an effect is shown, whatever its size
UNDECIDED = (INCONCLUSIVE, TOO_FEW)
GRADED = (*SHOWN, EQUIVALENT, INCONCLUSIVE)  # a bound has a say in these; other words stand
# Whom a verdict speaks of: `graded` says the first two, `domains.support` raises to the third.
THESE, THE_LAYER = "these experts", "experts of this layer"
LIKE_THESE = "domains like these"


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
    above = float(scipy.stats.t.sf((estimate + sesoi) / se, dof))
    below = float(scipy.stats.t.cdf((estimate - sesoi) / se, dof))
    return Tost(above, below, max(above, below))


def graded(
    p_documents: float,
    p_equivalence: float,
    estimate: float,
    low: float,
    high: float,
    *,
    bound: float | int | None,
    alpha: float | int,
    p_experts: float = float("nan"),
    p_beyond: float | None = None,
    few: bool = False,
) -> tuple[str, str | None]:
    """The verdict of a contrast, and whom it speaks of; p-values adjusted over the family.

    An effect is present if documents show it and, where the metric was shuffled (`p_experts` is a
    number), experts do. How large it is, is another question: above the `bound` where the interval is,
    below it where equivalence is shown, else open. A true effect above the bound can so only go from
    undecided to open to predictive as evidence grows, never back. Without a bound (None) sizes are
    not judged.

    "experts of this layer": the claim, of an effect or of smallness, takes experts as a sample, too.
    "these experts": it is by documents alone.

    `p_beyond` tests that the size is beyond the bound, `p_equivalence` that it is within it, both adjusted over
    the family. Where the metric was shuffled both must be by the crossed limits (`beyond.p_beyond`,
    `beyond.p_within`). NaN where there is none, and then nothing is claimed by it; `p_beyond` None for
    one cell alone, whose limits serve. `few`: documents are too few for any verdict (`few.too_few`).
    """
    if np.isnan(p_documents):
        return NOT_ESTIMABLE, None
    if few:
        return TOO_FEW, None
    shown, shuffled = p_documents <= alpha, not np.isnan(p_experts)
    luck = shuffled and p_experts > alpha
    whom = THE_LAYER if shuffled else THESE
    if p_equivalence <= alpha:  # False for NaN: no equivalence was shown
        return (BELOW if shown and not luck else EQUIVALENT), whom
    if not shown or luck:
        return INCONCLUSIVE, THESE if shown else None
    beyond = low > (bound or 0) or high < -(bound or 0) if p_beyond is None else p_beyond <= alpha
    if bound is None or beyond:
        return (PREDICTIVE if estimate > 0 else REVERSED), whom
    return OPEN, whom
