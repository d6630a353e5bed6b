"""Document sign-flips against every flip listed by hand, and against what must hold."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy import stats

from moeaudit.errors import InputError
from moeaudit.stats.families.maxt import document_sums, flips, max_t, sign_flip_p, unbiased_skewness


def test_exact_p_lists_every_flip():
    s = np.random.default_rng(0).normal(size=9) + 0.4
    all_flips = np.array(list(itertools.product([1, -1], repeat=9))) @ s
    want = (np.abs(all_flips) >= abs(s.sum()) - 1e-12).mean()
    assert sign_flip_p(s, statistic="t") == pytest.approx(want, abs=1e-12)
    # scipy's own exact permutation of signs gives the same number
    theirs = stats.permutation_test(
        (s,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(s, statistic="t") == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sampled_p_is_near_the_t_test_for_many_normal_documents():
    s = np.random.default_rng(1).normal(size=300) + 0.1
    want = stats.ttest_1samp(s, 0).pvalue
    assert sign_flip_p(s, n_flips=40_000) == pytest.approx(want, abs=0.01)


def hall(x):
    """Hall (1992), written from the formula, one sample at a time."""
    n, m, sd = len(x), x.mean(), x.std()
    t, g = m / sd, ((x - m) ** 3).mean() / sd**3
    g = (1 + 6.51 / n + 20.2 / n**2) * g + (1.48 / n + 6.77 / n**2) * g**3
    return math.sqrt(n) * (t + g * t**2 / 3 + g**2 * t**3 / 27 + g / (6 * n))


def student(x):
    return math.sqrt(len(x)) * x.mean() / x.std()


@pytest.mark.parametrize(("statistic", "formula"), [("t", student), ("skew_adjusted", hall)])
def test_step_down_by_hand(statistic, formula):
    sums = np.random.default_rng(2).exponential(size=(7, 3)) - np.array([0.2, 0.7, 1.5])
    signs = np.array(list(itertools.product([1, -1], repeat=7)))
    flipped = np.array([[abs(formula(e * c)) for c in sums.T] for e in signs])
    observed = flipped[0]
    order = np.argsort(-observed)
    want, running = np.zeros(3), 0.0
    for step, cell in enumerate(order):
        rest = order[step:]
        p = (flipped[:, rest].max(axis=1) >= observed[cell] - 1e-9).mean()
        running = max(running, p)
        want[cell] = running
    got = max_t(sums, statistic=statistic)
    np.testing.assert_allclose(got.p_maxt, want, atol=1e-12)
    np.testing.assert_allclose(np.abs(got.statistic), observed, atol=1e-9)


@pytest.mark.parametrize("skewness", [0.5, 1.0, 2.0])
def test_the_skewness_of_few_values_is_nearly_unbiased(skewness):
    x = np.random.default_rng(0).gamma(4 / skewness**2, size=(20_000, 25))
    plain = stats.skew(x, axis=1)
    assert plain.mean() < 0.8 * skewness
    assert unbiased_skewness(plain, 25).mean() == pytest.approx(skewness, rel=0.1)


def test_taking_off_the_skewness_mends_a_skewed_null():
    # Centred log-normal sums have mean zero but are not symmetric, so plain flips claim too much.
    rng = np.random.default_rng(9)
    hits = {"t": 0, "skew_adjusted": 0}
    for run in range(400):
        x = rng.lognormal(sigma=0.8, size=(40, 6)) - math.exp(0.32)
        for name in hits:
            hits[name] += np.min(max_t(x, n_flips=199, seed=run, statistic=name).p_maxt) <= 0.05
    assert hits["skew_adjusted"] < 0.75 * hits["t"]


def test_identical_cells_cost_nothing_and_independent_ones_cost_bonferroni():
    rng = np.random.default_rng(3)
    s = rng.normal(size=100) + 0.2
    same = max_t(np.tile(s[:, None], 10), n_flips=5000)
    np.testing.assert_allclose(same.p_maxt, same.p_flip)
    apart = max_t(np.column_stack([s, rng.normal(size=(100, 9))]), n_flips=20_000)
    assert apart.p_maxt[0] == pytest.approx(1 - (1 - apart.p_flip[0]) ** 10, rel=0.15)
    assert (apart.p_maxt >= apart.p_flip).all()


def test_family_wise_error_holds_under_the_global_null():
    rng = np.random.default_rng(4)
    hits = sum(
        np.min(max_t(rng.standard_t(3, size=(30, 8)), n_flips=199, seed=i).p_maxt) <= 0.05
        for i in range(400)
    )
    assert 0.02 <= hits / 400 <= 0.08


def test_document_sums_equal_a_loop():
    rng = np.random.default_rng(5)
    values, document = rng.normal(size=(50, 3)), rng.integers(0, 6, 50)
    want = np.array([values[document == d].sum(axis=0) for d in range(6)])
    np.testing.assert_allclose(document_sums(values, document, 6), want)


def test_a_cell_without_effects_is_not_estimable_and_leaves_the_others_alone():
    sums = np.random.default_rng(6).normal(size=(20, 2))
    sums[:, 1] = 0
    result = max_t(sums)
    assert np.isnan(result.p_maxt[1]) and np.isfinite(result.p_maxt[0])
    assert np.isnan(max_t(np.eye(3)[:, :1]).p_maxt[0])  # one document holds everything


def test_flips_need_two_documents():
    with pytest.raises(InputError, match="2 documents"):
        flips(1, 10, 0)


def test_speed_of_the_stated_target():
    # 60 cells by 100,000 tokens by 500 documents with 10,000 flips: under 10 s and 1 GiB.
    rng = np.random.default_rng(7)
    document = rng.integers(0, 500, 100_000)
    values = rng.standard_normal((100_000, 60))
    start = time.process_time()
    result = max_t(document_sums(values, document, 500), n_flips=10_000)
    assert time.process_time() - start < 10
    assert result.n_flips == 10_001 and np.isfinite(result.p_maxt).all()
