"""Every effect size by its own name, with the interval of your choice.

Which `d` is meant matters: the same data give a d_z of 0.3 and a d_av of 0.1 when the two members
of a pair hardly correlate or correlate well, and neither may be compared with the other's bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from moeaudit.errors import InputError, one_of

from ..contrast.checks import finite
from . import dominance, moments, winsorised
from .bootstrap import bca_limits, document_weights, leave_one_out, percentile_limits
from .limits import adjusted_limits, jackknife_se, student_limits

SIZES = {
    "mean_difference": "mean(high - low), in the outcome's units",
    "d_z": "mean(high - low) / sd(high - low); Cohen (1988), for pairs",
    "d_av": "mean(high - low) / ((sd(high) + sd(low)) / 2); Cumming (2012)",
    "d_pooled": "mean(high - low) / sqrt((var(high) + var(low)) / 2); Cohen's d of two groups",
    "g_z": "d_z times Hedges' exact small-sample factor J(n - 1)",
    "g_av": "d_av times Hedges' exact small-sample factor J(n - 1)",
    "winsorised_d_z": "d_z with the lowest and the highest 5 % of the differences set to the next value "
    "inwards; Tukey (1962)",
    "p_superior": "share of tokens with high > low, ties halved",
    "rank_biserial": "matched-pairs rank-biserial (R+ - R-) / (R+ + R-), zeros dropped; Kerby (2014)",
    "cliffs_delta": "P(high_i > low_j) - P(high_i < low_j) over all pairs; Cliff (1993)",
    "cles": "common-language effect P(high_i > low_j), ties halved; McGraw & Wong (1992)",
}
INTERVALS = {
    "adjusted": "leave one document out, Student's t adjusted for heavy tails and skewness",
    "percentile": "document bootstrap, plain percentiles",
    "bca": "document bootstrap, bias-corrected and accelerated",
    "jackknife": "leave one document out, Student's t on documents - 1",
    "cluster": "analytic: delta method by document, Student's t on documents - 1",
    "token": "analytic: delta method, tokens taken as independent (what the literature reports)",
}


@dataclass(frozen=True)
class EffectSize:
    """An estimate and its interval; `reason` says why a number is missing (it is then NaN)."""

    name: str
    estimate: float
    low: float
    high: float
    se: float
    interval: str
    level: float
    reason: str | None = None


@dataclass(frozen=True)
class Pairs:
    """A cell's paired effects, with the reductions its effect sizes share."""

    document: Int[np.ndarray, " tokens"]
    high: Float[np.ndarray, " tokens"]
    low: Float[np.ndarray, " tokens"]
    n_documents: int

    @cached_property
    def moments(self) -> moments.Moments:
        return moments.moments(self.document, self.high, self.low, self.n_documents)

    @cached_property
    def dominance(self) -> dominance.Dominance:
        return dominance.Dominance(self.document, self.high, self.low, self.n_documents)

    @cached_property
    def winsorised(self) -> winsorised.Winsorised:
        return winsorised.Winsorised(self.document, self.high - self.low, self.n_documents)

    @property
    def present(self) -> np.ndarray:
        return self.moments.present

    def values(self, name: str, weights: np.ndarray | None = None) -> np.ndarray:
        """The effect size under each row of document weights (all one if None)."""
        if name in moments.MOMENT_STATISTICS:
            return moments.MOMENT_STATISTICS[name](moments.weighted(self.moments, weights))
        if name == winsorised.NAME:
            return self.winsorised.values(weights)
        return dominance.values(self.dominance, name, weights)

    def influence(self, name: str) -> np.ndarray:
        if name in moments.MOMENT_STATISTICS:
            return moments.influence(self.moments, name)
        if name == winsorised.NAME:
            return self.winsorised.influence
        return dominance.influence(self.document, self.high, self.low, name, self.n_documents)

    def jackknife(self, name: str) -> np.ndarray:
        """The effect size with each document left out."""
        if name in moments.MOMENT_STATISTICS:
            return moments.jackknife(self.moments, name)
        if name == winsorised.NAME:
            return self.winsorised.left_out
        return self.values(name, leave_one_out(self.present))

    def se(self, name: str, how: str = "jackknife") -> float:
        """Standard error by document: jackknife, or the delta method ("cluster")."""
        d = int(self.present.sum())
        if how == "jackknife":
            return jackknife_se(self.jackknife(name))
        return float(np.sqrt(d / (d - 1) * (self.influence(name) ** 2).sum()))


def interval_of(
    pairs: Pairs, name: str, how: str, level: float, weights: np.ndarray | None
) -> tuple[float, float]:
    """Limits of one effect size; bootstrap weights are given so that cells can share them."""
    estimate = float(pairs.values(name)[0])
    dof = int(pairs.present.sum()) - 1
    if how in ("percentile", "bca"):
        if weights is None:
            raise InputError(f"The interval {how} needs document weights to resample by.")
        draws = pairs.values(name, weights)
        draws = draws[np.isfinite(draws)]
        if how == "percentile":
            return percentile_limits(draws, level)
        return bca_limits(estimate, draws, pairs.jackknife(name), level)
    if how == "adjusted":
        return adjusted_limits(estimate, pairs.jackknife(name), level)
    if how == "token":
        n = len(pairs.high)
        if name == "d_z":  # the published form, exact for normal differences as n grows
            se = np.sqrt(1 / n + estimate**2 / (2 * n))
        else:
            alone = Pairs(np.arange(n), pairs.high, pairs.low, n)
            se = alone.se(name, "cluster")
        return student_limits(estimate, float(se), np.inf, level)
    return student_limits(estimate, pairs.se(name, how), dof, level)


def effect_size(
    name: str,
    high: Float[np.ndarray, " tokens"],
    low: Float[np.ndarray, " tokens"],
    document: np.ndarray | None = None,
    *,
    interval: str = "adjusted",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> EffectSize:
    """One effect size of paired effects with an interval over documents.

    Parameters
    ----------
    name
        One of `SIZES`, which give the formulas. Standard deviations are with ddof = 1; the
        release of arXiv 2606.10703 divides its d by the ddof = 0 deviation, so that its d is
        sqrt(n / (n - 1)) times this d_z.
    high, low
        Outcome with the token's highest- and lowest-scored expert removed.
    document
        The document of each token; every token its own if None.
    interval
        One of `INTERVALS`.

    Raises InputError for an unknown name, unequal lengths, NaN or infinite values.
    """
    one_of(name, SIZES, "effect size")
    one_of(interval, INTERVALS, "interval")
    document = np.arange(len(high)) if document is None else document
    if not len(high) == len(low) == len(document):
        raise InputError(
            f"Pairs need equal lengths: {len(high)} high, {len(low)} low, {len(document)} documents."
        )
    finite(high, "The high effects", "tokens")
    finite(low, "The low effects", "tokens")
    codes = np.unique(document, return_inverse=True)[1].astype(np.int64)
    pairs = Pairs(codes, high, low, int(codes.max(initial=-1)) + 1)
    nan = float("nan")
    reason = why_not(pairs)
    estimate = float(pairs.values(name)[0]) if len(high) > 1 else nan
    if reason is not None:
        return EffectSize(name, estimate, nan, nan, nan, interval, level, reason)
    boot = interval in ("percentile", "bca")
    weights = document_weights(pairs.n_documents, n_boot, seed) if boot else None
    lower, upper = interval_of(pairs, name, interval, level, weights)
    reason = None if np.isfinite(lower) else "the estimate lies outside all bootstrap replicates"
    return EffectSize(name, estimate, lower, upper, pairs.se(name), interval, level, reason)


def why_not(pairs: Pairs) -> str | None:
    """Why no interval can be given, if so."""
    d = int(pairs.present.sum())
    if len(pairs.high) < 2:
        return f"an effect size needs at least 2 tokens, and has {len(pairs.high)}"
    if d < 2:
        return f"an interval over documents needs at least 2 documents, and has {d}"
    difference = pairs.high - pairs.low
    if np.ptp(difference) <= 1e-12 * max(float(np.abs(difference).max()), 1e-300):
        return "all differences are the same, so they have no spread"
    return None
