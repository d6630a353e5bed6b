"""Documents counted alike, and whether effects go with their lengths."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from made.census import QUICK, census

from moeaudit.stats import contrast
from moeaudit.stats.sizes.lengths import counted_alike, equal_d_z, p_lengths
from moeaudit.stats.sizes.limits import adjusted_limits
from moeaudit.stats.sizes.moments import d_z, jackknife, moments, weighted


def linked(seed, documents=40, fall=0.0):
    """Differences whose mean falls by `fall` with the logarithm of the length; sums by document, too."""
    rng = np.random.default_rng(seed)
    tokens = np.maximum(2, rng.lognormal(3.5, 0.8, documents).astype(int))
    document = np.repeat(np.arange(documents), tokens)
    d = rng.normal(size=len(document)) - fall * np.log(tokens / 33)[document]
    return d, document, tokens


def test_each_document_counts_the_same():
    d, document, tokens = linked(0, fall=0.5)
    m = moments(document, d, np.zeros(len(d)))
    estimate, low, high = equal_d_z(m, 0.95)
    weight = 1 / tokens[document]
    mean = np.average(d, weights=weight)
    n = len(d)
    deviation = np.sqrt(np.average((d - mean) ** 2, weights=weight) * n / (n - 1))
    assert estimate == pytest.approx(mean / deviation, abs=1e-10)
    assert low < estimate < high
    assert abs(estimate) < abs(d_z(weighted(m))[0])  # long documents have the larger effects


def test_of_equal_lengths_it_is_the_estimate_itself():
    rng = np.random.default_rng(1)
    document = np.repeat(np.arange(20), 15)
    m = moments(document, rng.normal(0.2, 1, 300), np.zeros(300))
    plain = float(d_z(weighted(m))[0])
    limits = adjusted_limits(plain, jackknife(m, "d_z"), 0.95)
    assert equal_d_z(m, 0.95) == pytest.approx((plain, *limits), abs=1e-12)
    assert p_lengths(m.difference_sums, m.sums[:, 0]) == 1
    assert np.allclose(counted_alike(m).sums, m.sums)


def test_the_slope_is_the_weighted_least_squares_of_statsmodels():
    d, document, tokens = linked(2, documents=25, fall=0.1)
    sums = np.bincount(document, d)
    fit = sm.WLS(sums / tokens, sm.add_constant(np.log(tokens)), weights=tokens).fit()
    want = fit.get_robustcov_results("HC3", use_t=True).pvalues[1]
    assert p_lengths(sums, tokens) == pytest.approx(want, rel=1e-6)


def test_linked_effects_are_found_and_others_are_not():
    def share(fall):
        found = [linked(seed, fall=fall) for seed in range(200)]
        return np.mean([p_lengths(np.bincount(m, d), t) <= 0.05 for d, m, t in found])

    assert share(0.3) > 0.9
    assert 0.01 <= share(0.0) <= 0.1


def test_a_table_says_where_effects_go_with_length():
    effects, metrics = census(documents=40, tokens=60, slope=0.0)
    length = np.random.default_rng(0).integers(4, 61, 40)
    effects = effects[effects["position"] < length[effects["document"]]].copy()
    merged = effects.merge(metrics[metrics["metric"] == "id"], on=["layer", "expert"])
    slant = (merged["value"] - merged["value"].mean()) / merged["value"].std()
    merged["delta_nll"] += 0.5 * slant * np.log(length[merged["document"]] / 30)
    effects = merged[effects.columns]
    table = contrast(effects, metrics, controls=("random",), **QUICK)
    mine = table[table["metric"] == "id"]
    assert (mine["p_lengths"] < 0.01).all()
    assert mine["caution"].str.contains("d_z_equal").all()
    assert mine["too_few"].str.contains("length of documents").all()
    assert ((mine["d_z_equal"] - mine["d_z"]).abs() > 0.02).all()
