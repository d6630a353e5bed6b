"""Limits adjusted for tails and skewness: against the formulas, normal theory and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from moeaudit.stats import effect_size
from moeaudit.stats.limits import (
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


def test_limits_invert_halls_transform_and_never_shorten():
    x = np.random.default_rng(2).exponential(size=25) ** 1.5
    left, d = left_out(x), 25
    g, dof = stats.skew(x), degrees_of_freedom(left)
    q, se = stats.t.isf(0.025, dof), stats.sem(x)

    def hall(t):
        s = t / math.sqrt(d)
        return math.sqrt(d) * (s + g * s**2 / 3 + g**2 * s**3 / 27 + g / (6 * d))

    above = -optimize.brentq(lambda t: hall(t) + q, -50, 50, xtol=1e-12)
    low, high = adjusted_limits(float(x.mean()), left, 0.95)
    assert above > q  # skewed upwards: the upper limit is the longer one
    assert high == pytest.approx(x.mean() + above * se, abs=1e-8)
    assert low == pytest.approx(x.mean() - q * se, abs=1e-8)
    mirrored = adjusted_limits(-float(x.mean()), -left, 0.95)
    assert mirrored == pytest.approx((-high, -low), abs=1e-10)


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
