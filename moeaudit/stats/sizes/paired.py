"""Paired tests of one cell: by token, as the literature does, and by document, as one should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float, Int

from .moments import COUNT, Moments, influence, weighted


@dataclass(frozen=True)
class Test:
    """A test's statistic and two-sided p; `reason` says why there is none (then both are NaN)."""

    statistic: float
    p: float
    dof: float | None = None
    reason: str | None = None


def not_estimable(reason: str) -> Test:
    return Test(float("nan"), float("nan"), None, reason)


def _test(result: Any, dof: float | None = None) -> Test:
    return Test(float(result.statistic), float(result.pvalue), dof)


def _constant(difference: np.ndarray) -> bool:
    spread = np.ptp(difference)
    return bool(spread <= 1e-12 * max(np.abs(difference).max(), 1e-300))


def paired_t(difference: Float[np.ndarray, " tokens"]) -> Test:
    """Student's paired t, two-sided, every token taken as independent (it is not: see cluster_t)."""
    if len(difference) < 2:
        return not_estimable("a paired t test needs at least 2 tokens")
    if _constant(difference):
        return not_estimable("all differences are the same, so they have no spread")
    return _test(scipy.stats.ttest_1samp(difference, 0.0), float(len(difference) - 1))


def wilcoxon(difference: Float[np.ndarray, " tokens"]) -> Test:
    """Wilcoxon's signed-rank test, two-sided, tokens taken as independent.

    Rules: zero differences are dropped (Wilcoxon's own rule, scipy's `zero_method="wilcox"`), tied
    magnitudes share their mean rank; the exact distribution up to 50 pairs without ties or zeros,
    else the normal approximation with the tie correction and no continuity correction.
    """
    nonzero = difference[difference != 0]
    if len(nonzero) == 0:
        return not_estimable("all differences are zero")
    exact = len(difference) <= 50 and len(np.unique(np.abs(difference))) == len(difference)
    exact = exact and len(nonzero) == len(difference)
    method = "exact" if exact else "approx"
    return _test(
        scipy.stats.wilcoxon(nonzero, zero_method="wilcox", correction=False, method=method)
    )


def cluster_t(m: Moments) -> Test:
    """The mean difference over tokens, tested with documents as clusters.

    t = mean / se with se^2 = D / (D - 1) * sum over documents of (sum of residuals / n)^2, compared
    with Student's t on D - 1 degrees of freedom (Liang & Zeger 1986; the CR1 estimator, which
    statsmodels calls cov_type="cluster" with its default corrections).
    """
    documents = m.n_documents
    if documents < 2:
        return not_estimable(f"a test by document needs at least 2 documents, and has {documents}")
    total = m.difference_sums.sum() / m.sums[:, COUNT].sum()
    se = cluster_se(m, "mean_difference")
    if not se > 1e-12 * abs(total):
        return not_estimable("all documents have the same mean difference, so no spread")
    t = float(total / se)
    return Test(t, float(2 * scipy.stats.t.sf(abs(t), documents - 1)), float(documents - 1))


def cluster_se(m: Moments, statistic: str) -> float:
    """Cluster-robust standard error of an effect size: sqrt(D / (D - 1) * sum influence^2)."""
    documents = m.n_documents
    if documents < 2:
        return float("nan")
    u = influence(m, statistic)
    return float(np.sqrt(documents / (documents - 1) * (u**2).sum()))


def signed_rank_sums(
    difference: Float[np.ndarray, " tokens"],
    document: Int[np.ndarray, " tokens"],
    n_documents: int,
) -> Float[np.ndarray, " documents"]:
    """Sum of signed ranks of |difference| over each document's tokens (zeros dropped, midranks).

    Sign-flipping these sums gives Wilcoxon's test with documents as clusters; their normal
    approximation is that of Rosner, Glynn & Lee (2006).
    """
    keep = difference != 0
    ranks = scipy.stats.rankdata(np.abs(difference[keep])) * np.sign(difference[keep])
    return np.bincount(document[keep], ranks, minlength=n_documents).astype(np.float64)


def design_effect(m: Moments) -> float:
    """Variance of the mean difference by documents over that of as many independent tokens."""
    if m.n_documents < 2 or m.n < 2:
        return float("nan")
    token = float(weighted(m).var_difference[0]) / m.n
    return float(cluster_se(m, "mean_difference") ** 2 / token) if token > 0 else float("nan")
