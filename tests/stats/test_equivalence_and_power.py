"""TOST, verdicts, power and planning against statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from moeaudit.errors import InputError
from moeaudit.stats import tost
from moeaudit.stats.sizes import power
from moeaudit.stats.sizes.equivalence import graded


def test_tost_equals_statsmodels():
    x = np.random.default_rng(0).normal(0.05, 1, size=150)
    p, low, high = DescrStatsW(x).ttost_mean(-0.2, 0.2)
    got = tost(x.mean(), x.std(ddof=1) / math.sqrt(150), 149, 0.2)
    assert got.p == pytest.approx(p, abs=1e-10)
    assert got.p_above == pytest.approx(low[1], abs=1e-10)
    assert got.p_below == pytest.approx(high[1], abs=1e-10)


def test_equivalence_is_the_90_percent_interval_inside_the_bound():
    for estimate in (0.0, 0.03, 0.04, 0.05, 0.09):
        half = stats.t.isf(0.05, 60) * 0.03
        inside = estimate + half < 0.1 and estimate - half > -0.1
        assert (tost(estimate, 0.03, 60, 0.1).p < 0.05) == inside


@pytest.mark.parametrize("sesoi", [0, -1, math.nan, math.inf])
def test_a_smallest_effect_of_interest_must_be_positive(sesoi):
    with pytest.raises(InputError, match="SESOI"):
        tost(0.0, 1.0, 10, sesoi)


@pytest.mark.parametrize(
    ("p", "q", "estimate", "want"),
    [
        (0.01, 0.9, 0.3, "predictive"),
        (0.01, 0.9, -0.3, "reversed"),
        (0.5, 0.01, 0.01, "equivalent to none"),
        (0.01, 0.01, 0.02, "present but below"),
        (0.5, 0.5, 0.05, "inconclusive"),
        (0.01, math.nan, 0.3, "predictive"),
        (0.5, math.nan, 0.3, "inconclusive"),
        (math.nan, math.nan, 0.3, "not estimable"),
    ],
)
def test_verdicts(p, q, estimate, want):
    assert graded(p, q, estimate, -1.0, 1.0, bound=None, alpha=0.05)[0] == want


@pytest.mark.parametrize("effect", [0.0, 0.1, 0.222, 0.4])
@pytest.mark.parametrize("alpha", [0.05, 0.0025])
def test_power_equals_statsmodels(effect, alpha):
    want = TTestPower().power(effect, 200, alpha, alternative="two-sided")
    assert power.power_t(effect, 1 / math.sqrt(200), 199.0, alpha) == pytest.approx(want, abs=1e-8)


def test_the_published_design_has_the_power_it_has():
    # 200 independent tokens at .05 / 20: 18 % at d = .15, 53 % at the largest effect reported.
    got = [power.power_t(d, 1 / math.sqrt(200), 199.0, 0.0025) for d in (0.15, 0.222)]
    assert [round(100 * g) for g in got] == [18, 53]


def test_minimum_detectable_effect_equals_statsmodels():
    want = TTestPower().solve_power(None, 200, 0.0025, 0.8)
    got = power.minimum_detectable(1 / math.sqrt(200), 199.0, 0.0025, 0.8)
    assert got == pytest.approx(float(want), abs=1e-6)


def test_power_of_equivalence_by_simulation():
    rng = np.random.default_rng(2)
    se, dof, sesoi = 0.05, 40, 0.13
    draws = rng.normal(0, se, 40_000)
    spread = se * np.sqrt(rng.chisquare(dof, 40_000) / dof)
    t = stats.t.isf(0.05, dof)
    hit = (draws + t * spread < sesoi) & (draws - t * spread > -sesoi)
    assert power.power_tost(sesoi, se, float(dof), 0.05) == pytest.approx(hit.mean(), abs=0.03)


def test_documents_to_decide_is_the_first_that_decides():
    d = power.documents_to_decide(0.06, 50, 0.1, 0.01, 0.05)

    def both(n):
        se = 0.06 * math.sqrt(50 / n)
        return min(power.power_t(0.1, se, n - 1.0, 0.01), power.power_tost(0.1, se, n - 1.0, 0.05))

    assert both(d) >= 0.8 > both(d - 1)
