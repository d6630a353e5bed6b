"""Effect sizes and their intervals against definitions written out, scipy, and each other."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from moeaudit.errors import InputError
from moeaudit.stats import association
from moeaudit.stats.sizes import bootstrap, dominance
from moeaudit.stats.sizes.effect_sizes import SIZES, Pairs, effect_size
from moeaudit.stats.sizes.moments import hedges_factor


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    document = rng.integers(0, 9, size=80)
    high = rng.standard_t(4, size=80) + 0.3 + 0.5 * rng.normal(size=9)[document]
    low = 0.4 * high + rng.normal(size=80)
    high[:6], low[:6] = np.round(high[:6]), np.round(high[:6])  # zero differences
    high[6:20], low[6:20] = np.round(high[6:20], 1), np.round(low[6:20], 1)  # ties
    return high, low, document


def estimate(name, data):
    return effect_size(name, data[0], data[1], data[2]).estimate


def test_standardised_differences_by_their_formulas(data):
    high, low, _ = data
    d, n = high - low, len(high)
    gap = d.mean()
    want = {
        "mean_difference": gap,
        "d_z": gap / d.std(ddof=1),
        "d_av": gap / ((high.std(ddof=1) + low.std(ddof=1)) / 2),
        "d_pooled": gap / math.sqrt((high.var(ddof=1) + low.var(ddof=1)) / 2),
        "p_superior": (d > 0).mean() + (d == 0).mean() / 2,
    }
    j = math.gamma((n - 1) / 2) / (math.sqrt((n - 1) / 2) * math.gamma((n - 2) / 2))
    want |= {"g_z": j * want["d_z"], "g_av": j * want["d_av"]}
    for name, value in want.items():
        assert estimate(name, data) == pytest.approx(value, abs=1e-12), name


def test_hedges_factor_has_its_known_values():
    # Hedges (1981), table: J(2) = 0.5642, J(10) = 0.9227; and the usual approximation.
    assert hedges_factor(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-12)
    assert hedges_factor(10) == pytest.approx(0.9227, abs=1e-4)
    assert hedges_factor(200) == pytest.approx(1 - 3 / (4 * 200 - 1), abs=1e-5)


def test_rank_biserial_is_the_signed_rank_statistic_rescaled(data):
    d = data[0] - data[1]
    d = d[d != 0]
    # scipy returns min(R+, R-) for two sides and R+ for alternative="greater"
    plus = stats.wilcoxon(d, alternative="greater").statistic
    total = len(d) * (len(d) + 1) / 2
    assert estimate("rank_biserial", data) == pytest.approx((2 * plus - total) / total, abs=1e-12)


def test_cliffs_delta_and_cles_are_mann_whitney_rescaled(data):
    high, low, _ = data
    u = stats.mannwhitneyu(high, low).statistic / len(high) ** 2
    assert estimate("cliffs_delta", data) == pytest.approx(2 * u - 1, abs=1e-12)
    assert estimate("cles", data) == pytest.approx(u, abs=1e-12)


@pytest.mark.parametrize("name", SIZES)
def test_document_weights_equal_repeating_the_documents(data, name):
    high, low, document = data
    weights = np.array([3, 0, 1, 2, 0, 1, 5, 1, 1])
    rows = np.repeat(np.arange(80), weights[document])
    pairs = Pairs(document, high, low, 9)
    repeated = Pairs(document[rows], high[rows], low[rows], 9)
    got = pairs.values(name, weights[None].astype(float))[0]
    assert got == pytest.approx(repeated.values(name)[0], abs=1e-12)


# Not winsorised_d_z, whose cut points jump with a weight.
@pytest.mark.parametrize("name", [n for n in SIZES if n != "winsorised_d_z"])
def test_influence_is_the_derivative_by_document_weight(data, name):
    pairs = Pairs(data[2], data[0], data[1], 9)
    step = 1e-6
    up = np.ones((9, 9)) + step * np.eye(9)
    slope = (pairs.values(name, up) - pairs.values(name, 2 - up)) / (2 * step)
    got = pairs.influence(name)
    # ddof = 1 and Hedges' factor make the exact derivative differ by terms of order 1 / n^2.
    assert got == pytest.approx(slope, abs=5e-4 * np.abs(slope).max() + 4 / 80**2)
    assert got.sum() == pytest.approx(0, abs=1e-10)


def test_token_interval_of_d_z_is_the_published_formula():
    rng = np.random.default_rng(3)
    high, low = rng.normal(size=200) + 0.2, rng.normal(size=200)
    got = effect_size("d_z", high, low, interval="token")
    half = 1.959963984540054 * math.sqrt(1 / 200 + got.estimate**2 / 400)
    assert (got.low, got.high) == pytest.approx((got.estimate - half, got.estimate + half))


def test_jackknife_equals_leaving_documents_out(data):
    high, low, document = data
    left = []
    for k in range(9):
        d = (high - low)[document != k]
        left.append(d.mean() / d.std(ddof=1))
    se = math.sqrt(8 / 9 * ((np.array(left) - np.mean(left)) ** 2).sum())
    got = effect_size("d_z", high, low, document, interval="jackknife")
    assert got.se == pytest.approx(se, abs=1e-12)
    assert got.high - got.low == pytest.approx(2 * stats.t.isf(0.025, 8) * se, abs=1e-12)


def test_bca_and_percentile_equal_scipy_on_the_same_replicates():
    x = np.random.default_rng(1).lognormal(size=30)
    for method, ours in (("BCa", bootstrap.bca_limits), ("percentile", None)):
        theirs = stats.bootstrap((x,), np.mean, method=method, n_resamples=999, rng=2)
        draws = theirs.bootstrap_distribution
        if ours is None:
            got = bootstrap.percentile_limits(draws)
        else:
            left = np.array([np.delete(x, i).mean() for i in range(30)])
            got = ours(x.mean(), draws, left)
        assert got == pytest.approx(tuple(theirs.confidence_interval), abs=1e-8)


@pytest.mark.parametrize("name", ["d_z", "d_av", "rank_biserial", "cliffs_delta", "p_superior"])
def test_intervals_agree_where_they_must(name):
    # Many small documents of normal data: every interval estimates the same thing.
    rng = np.random.default_rng(8)
    document = np.repeat(np.arange(200), 5)
    low = rng.normal(size=1000)
    high = low + rng.normal(size=1000) + 0.2
    limits = {
        how: effect_size(name, high, low, document, interval=how)
        for how in ("percentile", "bca", "jackknife", "cluster", "token")
    }
    widths = {how: e.high - e.low for how, e in limits.items()}
    assert max(widths.values()) < 1.15 * min(widths.values()), widths


@pytest.mark.parametrize("block", [1, 2, 7, 32, 500])
def test_sign_sums_equal_every_pair_written_out(data, block):
    high, low, document = data
    sign = np.sign(high[:, None] - low[None])
    want = np.zeros((9, 9))
    np.add.at(want, (document[:, None], document[None]), sign)
    assert (sign == 0).sum() > 20  # ties within and across documents
    np.testing.assert_array_equal(dominance.sign_sums(high, low, document, 9, block=block), want)


def test_bca_of_a_rank_size_is_quick():
    # 160 documents of 127 tokens, as in an audit: under a second where pairs were 3 seconds.
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(160), 127)
    high, low = rng.standard_t(3, size=(2, len(document)))
    start = time.process_time()
    got = effect_size("rank_biserial", high, low, document, interval="bca")
    assert time.process_time() - start < 2
    assert got.low < got.estimate < got.high


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_rank_correlations_and_their_document_bootstrap(data, name):
    x, y, document = data
    want = (stats.spearmanr if name == "spearman" else stats.kendalltau)(x, y).statistic
    for how in ("percentile", "bca", "jackknife", "token"):
        got = association(name, x, y, document, interval=how, n_boot=300)
        assert got.estimate == pytest.approx(want, abs=1e-12)
        assert got.low < want < got.high


def test_a_correlations_interval_equals_redrawing_the_documents(data):
    x, y, document = data
    weights = bootstrap.document_weights(9, 200, 4).astype(int)
    draws = []
    for w in weights:
        rows = np.concatenate([np.tile(np.flatnonzero(document == k), w[k]) for k in range(9)])
        draws.append(stats.spearmanr(x[rows.astype(int)], y[rows.astype(int)]).statistic)
    got = association("spearman", x, y, document, n_boot=200, seed=4)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-8)
    left = [stats.spearmanr(x[document != k], y[document != k]).statistic for k in range(9)]
    se = math.sqrt(8 / 9 * ((left - np.mean(left)) ** 2).sum())
    assert got.se == pytest.approx(se, abs=1e-8)


def test_what_cannot_be_estimated_says_why():
    ones = np.ones(5)
    assert "same" in effect_size("d_z", ones, np.zeros(5)).reason
    one = effect_size("d_z", np.arange(5.0), ones, np.zeros(5))
    assert "2 documents" in one.reason and np.isfinite(one.estimate)
    assert "constant" in association("spearman", ones, np.arange(5.0)).reason


@pytest.mark.parametrize(
    ("name", "high", "interval"),
    [
        ("d", np.zeros(3), "bca"),
        ("d_z", np.array([0, np.nan, 1]), "bca"),
        ("d_z", np.array([0, np.inf, 1]), "bca"),
        ("d_z", np.zeros(3), "exact"),
    ],
)
def test_bad_requests_are_refused(name, high, interval):
    with pytest.raises(InputError):
        effect_size(name, high, np.zeros(3), interval=interval)
