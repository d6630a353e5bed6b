"""The size of a rank correlation against a bound: documents, experts and the ceiling all with limits."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census
from scipy import stats

from moeaudit.stats import expert_harm
from moeaudit.stats.families.families import adjust
from moeaudit.stats.ranking.attenuation import Attenuation
from moeaudit.stats.ranking.size import NO_CEILING, OverRanked, Size

KNOWN = Attenuation(0.81, 0.64, 0.9025)


def size(rho=0.5, se=0.05, documents=60, over=None, noise=KNOWN):
    return Size(rho, se, documents, over or OverRanked(math.atanh(rho), 0.1, 40), noise)


def test_experts_part_equals_the_jackknife_and_the_formula_by_hand():
    rng = np.random.default_rng(0)
    x = rng.normal(size=14)
    y = x + rng.normal(size=14)
    rho = stats.spearmanr(x, y).statistic
    left = [
        np.arctanh(stats.spearmanr(np.delete(x, i), np.delete(y, i)).statistic) for i in range(14)
    ]
    jackknife = np.sqrt(13 / 14 * ((left - np.mean(left)) ** 2).sum())
    found = OverRanked.of(x, y)
    assert found.z == pytest.approx(np.arctanh(rho)) and found.experts == 14
    assert found.se == pytest.approx(max(jackknife, np.sqrt((1 + rho**2 / 2) / 11)))
    perfect = OverRanked.of(x, x)  # leaving one out changes nothing: the formula stands
    assert perfect.se == pytest.approx(np.sqrt(1.5 / 11))
    assert perfect.z == pytest.approx(np.arctanh(1 - 6 / (14**3 - 14)))


def test_a_perfect_order_of_few_experts_is_no_large_correlation_yet():
    # One order in 24 of four experts is perfect; of a dozen it is hardly luck.
    few, many = (
        OverRanked.of(np.arange(n, dtype=float), np.arange(n, dtype=float)) for n in (4, 12)
    )
    assert size(rho=1.0, over=few).beyond(0.3)[0] > 0.05 > size(rho=1.0, over=many).beyond(0.3)[0]


def test_crossed_limits_by_hand_and_never_shorter_than_either_part():
    s = size()
    t, q = stats.t.isf(0.025, 59), stats.t.isf(0.025, 39)
    down = 0.5 - np.tanh(np.arctanh(0.5) - q * 0.1)
    up = np.tanh(np.arctanh(0.5) + q * 0.1) - 0.5
    low = (0.5 - np.hypot(t * 0.05, down)) / 0.95
    high = (0.5 + np.hypot(t * 0.05, up)) / 0.8
    assert s.crossed_limits(0.95) == pytest.approx((low, high))
    mirrored = size(rho=-0.5, over=OverRanked(math.atanh(-0.5), 0.1, 40))
    assert mirrored.crossed_limits(0.95) == pytest.approx((-high, -low))


def test_p_is_where_the_limits_meet_the_bound():
    s = size()
    both, these = s.beyond(0.3)
    assert s.crossed_limits(1 - both)[0] == pytest.approx(0.3, abs=1e-4)
    assert these == pytest.approx(2 * stats.t.sf((0.5 - 0.3 * 0.95) / 0.05, 59), rel=1e-3)
    assert these < both
    small = size(rho=0.05, over=OverRanked(math.atanh(0.05), 0.1, 40))
    both, these = small.within(0.4)
    assert small.crossed_limits(1 - 2 * both)[1] == pytest.approx(0.4, abs=1e-4)
    assert these == pytest.approx(stats.t.sf((0.4 * 0.8 - 0.05) / 0.05, 59), rel=1e-3)
    assert these < both


@pytest.mark.parametrize(
    "noise", [Attenuation(float("nan")), Attenuation(0.5), Attenuation(0.5, 0.0, 0.8)]
)
def test_without_a_ceiling_above_zero_the_size_stays_open(noise):
    s = size(noise=noise)
    assert not s.known and np.isnan(s.beyond(0.3)).all() and s.within(0.9) == (1.0, 1.0)
    columns = s.columns(0.95)
    assert columns["no_crossed"] == NO_CEILING
    assert np.isnan([columns["rho_true_crossed_low"], columns["rho_true_crossed_high"]]).all()


def test_a_less_certain_ceiling_makes_every_claim_harder():
    sure, unsure = Attenuation(0.81, 0.81, 0.81), Attenuation(0.81, 0.5, 0.95)
    for i in range(2):
        assert size(noise=sure).beyond(0.3)[i] < size(noise=unsure).beyond(0.3)[i]
        near = {"rho": 0.02, "over": OverRanked(0.02, 0.05, 60)}
        assert size(noise=sure, **near).within(0.3)[i] < size(noise=unsure, **near).within(0.3)[i]


def test_the_table_corrects_sizes_over_its_family_and_draws_them_crossed():
    effects, metrics = census(documents=60, slope=0.5, experts=12, seed=3)
    table = expert_harm(effects, metrics, **QUICK)
    for role, part in table.groupby("metric"):
        assert (part.p_equivalence >= part.p_tost).all()
        assert (part.p_equivalence_crossed >= part.p_tost_crossed).all(), role
    family = table[table.role == "metric"]
    raw = family.p_tost_crossed.to_numpy(float)
    assert family.p_equivalence_crossed.to_numpy(float) == pytest.approx(adjust(raw, "holm"))
    known = table[table.no_crossed.isna()]
    assert len(known) and (known.p_beyond >= known.p_beyond_these).all()
    assert (known.rho_true_crossed_low <= known.rho_true).all()
    assert (known.rho_true_crossed_high >= known.rho_true).all()
    unknown = table[table.no_crossed.notna()]
    assert unknown.rho_true_crossed_low.isna().all() and unknown.p_beyond.isna().all()


def test_on_the_bound_no_claim_of_size_is_made_too_often():
    # Sixteen experts, a correlation of .5 with the harm itself, seen at a reliability of .8.
    rng, documents, experts = np.random.default_rng(5), 40, 16
    r, noise = 2 * np.sin(np.pi * 0.5 / 6), Attenuation(0.8, 0.8, 0.8)
    above, absent = 0, 0
    for _ in range(400):
        harm = rng.normal(size=experts)
        metric = r * harm + np.sqrt(1 - r * r) * rng.normal(size=experts)
        seen = harm + 0.5 * rng.normal(size=experts)
        rho = float(stats.spearmanr(metric, seen).statistic)
        cell = Size(rho, 0.1, documents, OverRanked.of(metric, seen), noise)
        above += cell.beyond(0.5)[0] <= 0.05
        absent += cell.within(0.5)[0] <= 0.05
    assert above <= 20 and absent <= 20  # .05 of 400


def test_limits_of_a_constant_column_when_one_is_left_out_are_of_ignorance():
    x = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    over = OverRanked.of(x, np.arange(5.0))
    assert math.isinf(over.se)
    s = size(rho=0.7, over=over)
    assert s.beyond(0.3)[0] == 1.0 and s.within(0.3)[0] == 1.0
    assert s.crossed_limits(0.95)[0] < 0
    assert pd.isna(s.columns(0.95)["no_crossed"])
