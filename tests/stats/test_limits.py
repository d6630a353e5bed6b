"""Limits adjusted for tails and skewness: against the formulas, normal theory and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from moeaudit.stats import effect_size
from moeaudit.stats.sizes.limits import (
    adjusted_limits,
    adjusted_tost,
    degrees_of_freedom,
    jackknife_se,
    student_limits,
)


def left_out(x):
    """Leave-one-out means of x."""
    return (x.sum() - x) / (len(x) - 1)


def test_of_a_mean_the_plain_limits_are_students():
    x = np.random.default_rng(0).normal(size=30)
    se = jackknife_se(left_out(x))
    assert se == pytest.approx(stats.sem(x), abs=1e-12)
    want = stats.t.interval(0.95, 29, x.mean(), stats.sem(x))
    assert student_limits(x.mean(), se, 29, 0.95) == pytest.approx(want, abs=1e-12)


def test_degrees_of_freedom_by_satterthwaite_from_scipys_kurtosis():
    x = np.random.default_rng(1).standard_t(4, size=40)
    d, k = 40, 3 + stats.kurtosis(x, bias=False)
    want = min(39.0, 2 * d / (k - (d - 3) / (d - 1)))
    assert degrees_of_freedom(left_out(x)) == pytest.approx(want, abs=1e-8)
    # The variance of a variance by its formula, k = 3: 2 sigma^4 / (D - 1), so D - 1 degrees.
    assert 2 * d / (3 - (d - 3) / (d - 1)) == pytest.approx(d - 1)
    one = np.zeros(40)
    one[0] = 1.0
    assert degrees_of_freedom(left_out(one)) < 2.5
    assert degrees_of_freedom(np.array([1.0, 2.0, 4.0])) == 2


def test_limits_are_longer_on_the_skewed_side_and_never_shortened():
    x = np.random.default_rng(2).gamma(0.6, size=40)
    left, d, g = left_out(x), 40, stats.skew(x)
    q, heavy = (stats.t.isf(0.025, n) for n in (d - 1, degrees_of_freedom(left)))
    leaning = q + g * (1 + 2 * q**2) / (6 * math.sqrt(d))
    assert g > 1 and leaning > heavy > q
    low, high = adjusted_limits(float(x.mean()), left, 0.95)
    assert high == pytest.approx(x.mean() + leaning * stats.sem(x), abs=1e-10)
    assert low == pytest.approx(x.mean() - heavy * stats.sem(x), abs=1e-10)
    mirrored = adjusted_limits(-float(x.mean()), -left, 0.95)
    assert mirrored == pytest.approx((-high, -low), abs=1e-10)


def test_skewness_makes_the_upper_limit_of_a_mean_miss_less():
    # 20 exponential values: Student's upper limit lies below the mean in 6 to 7 % instead of 2.5 %.
    rng = np.random.default_rng(6)
    missed = np.zeros(2)
    for _ in range(2000):
        x = rng.exponential(size=20)
        left, mean = left_out(x), float(x.mean())
        plain = student_limits(mean, jackknife_se(left), 19, 0.95)
        missed += [high < 1 for _, high in (plain, adjusted_limits(mean, left, 0.95))]
    assert missed[0] / 2000 > 0.05 and missed[1] < 0.7 * missed[0]


@pytest.mark.parametrize("shift", [-0.06, 0.0, 0.05])
def test_equivalence_is_the_adjusted_interval_inside_the_bound(shift):
    x = np.random.default_rng(3).exponential(size=60) * 0.3
    x = x - x.mean() + shift
    left = left_out(x)
    p = adjusted_tost(float(x.mean()), left, 0.1)
    for alpha in np.linspace(0.005, 0.495, 40):
        low, high = adjusted_limits(float(x.mean()), left, 1 - 2 * alpha)
        if abs(alpha - p) > 1e-6:
            assert (low > -0.1 and high < 0.1) == (p < alpha), alpha


def test_it_is_the_default_and_wider_where_one_document_carries_the_effect():
    rng = np.random.default_rng(4)
    document = np.repeat(np.arange(30), 6)
    low = rng.normal(size=180)
    high = low + rng.normal(size=180)
    high[:6] += 12
    default, plain = (
        effect_size("d_z", high, low, document, interval=how) for how in ("adjusted", "jackknife")
    )
    assert default == effect_size("d_z", high, low, document)
    assert default.high - default.low > 1.5 * (plain.high - plain.low)
    assert default.se == plain.se
