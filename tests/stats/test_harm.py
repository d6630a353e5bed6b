"""Expected harm per expert: against pandas and scipy, and on data whose reliability is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import census
from scipy import stats

from moeaudit.errors import InputError
from moeaudit.seeds import generator
from moeaudit.stats import expert_harm
from moeaudit.stats.contrast.controls import document_folds, heldout_score
from moeaudit.stats.contrast.slots import Census
from moeaudit.stats.contrast.table import TEXT
from moeaudit.stats.ranking import correlation
from moeaudit.stats.ranking import power as ranking_power
from moeaudit.stats.ranking.attenuation import Attenuation, of_half
from moeaudit.stats.ranking.power import PLAN
from moeaudit.stats.sizes.bootstrap import document_weights
from moeaudit.stats.sizes.power import power_tost

QUICK = {"n_boot": 200, "n_flips": 500}


def cell(table, metric, layer):
    return table[(table.metric == metric) & (table.layer == layer)].iloc[0]


def test_correlations_equal_scipy_on_group_means():
    effects, metrics = census(slope=0.1)
    table = expert_harm(effects, metrics, **QUICK)
    harm = effects[effects.layer == 1].groupby("expert").delta_nll.mean()
    row = cell(table, "id", 1)
    assert row.rho == pytest.approx(stats.spearmanr(harm.index, harm).statistic, abs=1e-12)
    assert row.tau == pytest.approx(stats.kendalltau(harm.index, harm).statistic, abs=1e-12)
    assert row.n_experts == 8 and row.n_dropped == 0 and row.n == 360
    assert row.rho_low <= row.rho <= row.rho_high


def test_permutation_p_is_near_the_exact_one():
    effects, metrics = census(slope=0.05, experts=6, seed=3)
    row = cell(expert_harm(effects, metrics, n_boot=50, n_flips=20_000), "id", 2)
    harm = effects[effects.layer == 2].groupby("expert").delta_nll.mean().to_numpy()
    exact = stats.permutation_test(
        (harm,),
        lambda x: stats.spearmanr(x, np.arange(6)).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
        vectorized=False,
    )
    assert row.p == pytest.approx(exact.pvalue, abs=0.015)


def test_reliable_harm_has_a_high_ceiling_and_noise_has_none():
    strong, metrics = census(documents=60, slope=1.0)
    noise, _ = census(documents=60, slope=0.0)
    a = cell(expert_harm(strong, metrics, **QUICK), "id", 1)
    b = cell(expert_harm(noise, metrics, **QUICK), "id", 1)
    assert a.reliability > 0.95 and a.ceiling == pytest.approx(a.reliability**0.5)
    assert b.reliability < 0.6 and a.verdict == "predictive" and b.verdict != "predictive"
    oracle = cell(expert_harm(strong, metrics, **QUICK), "heldout_causal", 1)
    assert oracle.rho > 0.9


def test_reliability_follows_the_known_variances():
    # Harm of experts has sd 1; each document adds noise of sd 3 to an expert's mean over 36 of them:
    # reliability 1 / (1 + 9 / 36) = .8 (Pearson); ranks of 64 normal experts come near it.
    rng = np.random.default_rng(0)
    documents, experts = 36, 64
    true = rng.normal(size=experts)
    rows = [
        (d, e // 4, 1, e % 4, e, 0.1, true[e] + 3 * rng.normal())
        for d in range(documents)
        for e in range(experts)
    ]
    names = ["document", "position", "layer", "rank", "expert", "weight", "delta_nll"]
    effects = pd.DataFrame(rows, columns=names)
    metrics = pd.DataFrame({"layer": 1, "expert": range(experts), "metric": "true", "value": true})
    row = cell(expert_harm(effects, metrics, **QUICK), "true", 1)
    assert row.reliability == pytest.approx(0.8, abs=0.08)
    assert row.rho == pytest.approx(row.ceiling, abs=0.08)


def test_reliability_equals_halving_the_documents_one_by_one():
    effects, metrics = census(documents=14, layers=(1,), slope=0.1)
    row = cell(expert_harm(effects, metrics, seed=5, **QUICK), "id", 1)
    halves = generator(5, "halves", 1).permuted(np.tile(np.arange(14) % 2, (200, 1)), axis=1)
    r = []
    for half in halves:
        sides = [effects[effects.document.isin(np.flatnonzero(half == side))] for side in (0, 1)]
        a, b = (side.groupby("expert").delta_nll.mean() for side in sides)
        r.append(stats.spearmanr(a, b).statistic)
    whole = 2 * np.mean(r) / (1 + np.mean(r))
    assert row.reliability == pytest.approx(whole, abs=1e-8)
    assert row.ceiling == pytest.approx(np.sqrt(whole), abs=1e-8)
    assert row.rho_true == pytest.approx(min(1, row.rho / np.sqrt(whole)), abs=1e-8)


def test_harm_per_token_of_text_counts_how_often():
    effects, metrics = census()
    tokens = 120
    total = effects[effects.layer == 1].groupby("expert").delta_nll.sum() / tokens
    row = cell(expert_harm(effects, metrics, per="token", **QUICK), "id", 1)
    assert row.rho == pytest.approx(stats.spearmanr(total.index, total).statistic, abs=1e-12)


def test_held_out_score_by_hand():
    effects, _ = census(documents=6, tokens=3, layers=(1,))
    slots = Census(effects, "delta_nll").slots(1)
    folds = document_folds(6, 3, 0)
    score = heldout_score(slots, folds)
    for token, slot in ((0, 0), (7, 2), (17, 1)):
        own = np.flatnonzero(folds == folds[slots.document[token]])
        rest = effects[(effects.expert == slots.expert[token, slot]) & ~effects.document.isin(own)]
        if len(rest):
            assert score[token, slot] == pytest.approx(rest.delta_nll.mean(), abs=1e-12)
        else:
            assert np.isnan(score[token, slot])


def test_rare_experts_are_dropped_and_counted():
    effects, metrics = census(documents=40, layers=(1,))
    rare = (effects.expert == 7) & (effects.document >= 5)
    row = cell(expert_harm(effects[~rare], metrics, **QUICK), "id", 1)
    assert row.n_experts == 7 and row.n_dropped == 1


def test_what_cannot_be_estimated_says_why_and_nothing_is_nan():
    effects, metrics = census()
    flat = metrics[metrics.metric == "id"].assign(metric="flat", value=2.0)
    few = metrics[(metrics.metric == "id") & (metrics.expert < 3)].assign(metric="few")
    table = expert_harm(effects, pd.concat([metrics, flat, few]), **QUICK)
    assert "same for every expert" in cell(table, "flat", 1).reason
    assert "only 3 experts" in cell(table, "few", 1).reason
    assert cell(table, "flat", 1).verdict == "not estimable"
    told = table.reason.notna() | table.caution.notna() | table.no_plan.notna()
    said = [
        "supports",
        "rho_given_use",
        "no_given_use",
        "too_few",
        "no_crossed",
        "rho_true_crossed_low",
        "rho_true_crossed_high",
        "p_beyond",
        "p_beyond_these",
    ]  # with reasons of their own, below
    nulls = table[~told].drop(columns=["reason", "caution", "no_plan", *said])
    assert not nulls.isna().any(axis=None)
    planned = table[table.reason.isna() & table.caution.isna()].drop(columns=[*PLAN, *TEXT, *said])
    assert not planned.isna().any(axis=None)
    assert (table.rho_given_use.isna() == table.no_given_use.notna()).all()
    sized = ["rho_true_crossed_low", "rho_true_crossed_high", "p_beyond", "p_beyond_these"]
    for name in sized:
        assert (table[name].isna() == table.no_crossed.notna()).all(), name
    withheld, estimable = table.verdict == "too few documents to say", table.reason.isna()
    assert (withheld == table.too_few.notna())[estimable].all()
    nothing = table.verdict.isin(["inconclusive", "not estimable", "too few documents to say"])
    assert table.supports[~nothing].notna().all()
    assert set(table.supports[nothing].dropna()) <= {"these experts"}


def test_the_power_of_a_rank_correlation_by_simulation():
    rng = np.random.default_rng(0)
    rho, n, runs = 0.6, 24, 4000
    r = 2 * np.sin(np.pi * rho / 6)  # Pearson's, for a Spearman of rho between normals
    x = rng.normal(size=(runs, n))
    y = r * x + np.sqrt(1 - r**2) * rng.normal(size=(runs, n))
    seen = correlation.paired_spearman(x, y)
    critical = 2.6  # of |rho| sqrt(n - 1)
    got = ranking_power.power_rank(rho, n, ranking_power.critical_z(critical, n))
    assert got == pytest.approx((np.abs(seen) * np.sqrt(n - 1) >= critical).mean(), abs=0.03)


def test_the_plan_of_a_ranking_inverts_its_power():
    noise, se, critical = Attenuation(0.8), 0.08, 3.0
    numbers, why = ranking_power.plan(64, 100, noise, se, critical, 0.5, 0.01, 0.8)
    z = ranking_power.critical_z(critical, 64)
    assert why is None
    assert ranking_power.power_rank(numbers["mde"] * noise.ceiling, 64, z) == pytest.approx(
        0.8, abs=1e-3
    )
    at = numbers["n_experts_to_decide"]
    # The critical z belongs to 64 experts; it hardly moves with their number.
    powers = [ranking_power.power_rank(0.5 * noise.ceiling, int(n), z) for n in (at - 1, at)]
    assert powers[0] < 0.8 <= powers[1] + 1e-3

    def decided(documents):
        k = documents / 100
        reliability = 0.8 * k / (1 + (k - 1) * 0.8)
        found = ranking_power.power_rank(0.5 * np.sqrt(reliability), 64, z)
        return min(found, power_tost(0.5, se / np.sqrt(k), documents - 1.0, 0.01)) >= 0.8

    n = int(numbers["n_documents_to_decide"])
    assert decided(n) and not decided(n - 1)


@pytest.mark.parametrize(
    ("n", "reliability", "sesoi", "why"),
    [
        (16, 0.9, 0.3, "no number of documents decides it: of 16 experts"),
        (16, 0.1, 0.3, "even a perfect metric would be found with less than 80% power"),
        (16, -0.2, 0.3, "reliability is not known"),
        (5, 0.9, 0.3, "no order of 5 experts is unlikely enough"),
    ],
)
def test_a_ranking_that_cannot_be_planned_says_why(n, reliability, sesoi, why):
    critical = 3.0 if n > 5 else 2.0
    numbers, said = ranking_power.plan(
        n, 50, Attenuation(reliability), 0.1, critical, sesoi, 0.01, 0.8
    )
    assert why in said and np.isnan(numbers["n_documents_to_decide"])


def test_every_ranking_has_a_minimum_detectable_correlation():
    effects, metrics = census(documents=60, slope=0.3, experts=16)
    table = expert_harm(effects, metrics, sesoi=0.85, **QUICK)
    assert table.mde.between(0.4, 1).all() and (table.n_documents_to_decide >= 4).all()
    row = cell(table, "id", 1)
    # By hand: the critical value of the family from the shuffles, through Fisher's z.
    assert row.power_at_sesoi > 0.8 > expert_harm(effects, metrics, **QUICK).power_at_sesoi.max()


def test_too_few_documents_and_bad_options_are_refused():
    effects, metrics = census(documents=3)
    with pytest.raises(InputError, match="at least 4"):
        expert_harm(effects, metrics, **QUICK)
    with pytest.raises(InputError, match="per="):
        expert_harm(effects, metrics, per="expert", **QUICK)
    with pytest.raises(InputError, match="weight"):
        expert_harm(effects.drop(columns="weight"), metrics, **QUICK)


def test_row_wise_correlations_equal_scipy_with_ties():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 5, (3, 20)).astype(float), rng.integers(0, 4, (6, 20)).astype(float)
    for ours, theirs in (
        (correlation.spearman_rows, stats.spearmanr),
        (correlation.kendall_rows, stats.kendalltau),
    ):
        want = [[theirs(a, b).statistic for a in x] for b in y]
        np.testing.assert_allclose(ours(x, y), want, atol=1e-12)
    low, high = correlation.spearman_limits(0.5, 30)
    z, se = np.arctanh(0.5), np.sqrt((1 + 0.125) / 27)
    assert (low, high) == pytest.approx((np.tanh(z - 1.959964 * se), np.tanh(z + 1.959964 * se)))
    assert correlation.spearman_brown(0.6) == pytest.approx(0.75)


def test_interval_covers_the_correlation_with_the_harm_itself():
    # 32 experts, harm of reliability .75 from 60 documents, metric correlated with the harm.
    rng = np.random.default_rng(5)
    weights = document_weights(60, 300, 0)
    noise = Attenuation(0.75)
    plain = corrected = 0
    for _ in range(200):
        harm = rng.normal(size=32)
        metric = 0.6 * harm + 0.8 * rng.normal(size=32)
        seen = harm + np.sqrt(60 / 3) * rng.normal(size=(60, 32))
        truth = stats.spearmanr(metric, harm).statistic
        draws = correlation.spearman_rows(metric[None], weights @ seen / 60)[:, 0]
        low, high = noise.true_limits(draws, 0.95)
        corrected += low <= truth <= high
        low, high = np.quantile(draws, [0.025, 0.975])
        plain += low <= truth <= high
    assert 0.9 <= corrected / 200 <= 0.99 and plain / 200 < 0.75


def test_attenuation_by_its_formulas():
    noise = Attenuation(0.64)
    assert noise.ceiling == pytest.approx(0.8) and noise.true(0.4) == pytest.approx(0.5)
    assert noise.of_replicates**2 == pytest.approx(0.64 / 1.36) == pytest.approx(of_half(0.64))
    draws = np.linspace(-0.2, 0.4, 1001)
    low, high = noise.true_limits(draws, 0.95)
    assert noise.observed_limits(draws, 0.95) == pytest.approx((0.8 * low, 0.8 * high))
    nothing = Attenuation(-0.1)
    assert np.isnan(nothing.true(0.3)) and nothing.true_limits(draws, 0.95) == (-1, 1)


@pytest.mark.parametrize(("slant", "withheld"), [(0.0, False), (0.5, True)])
def test_effects_that_go_with_length_withhold_a_ranking(slant, withheld):
    effects, metrics = census(documents=40, tokens=60, slope=0.3)
    length = np.random.default_rng(0).integers(4, 61, 40)
    effects = effects[effects["position"] < length[effects["document"]]].copy()
    effects["delta_nll"] += slant * 4 * np.log(length[effects["document"]] / 30)
    table = expert_harm(effects, metrics, **QUICK)
    assert table.too_few.str.contains("go with the length").fillna(False).all() == withheld
    assert (table.verdict == "too few documents to say").all() == withheld
    assert table.rho.notna().all()
    kept = expert_harm(effects, metrics, withhold=False, **QUICK)
    assert kept.too_few.isna().all() and not (kept.verdict == "too few documents to say").any()
