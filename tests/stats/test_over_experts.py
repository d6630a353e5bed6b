"""Experts as a sample: shuffles against brute force, and noise that must not become a finding."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census
from scipy import stats

from moeaudit.stats import contrast, pooled, regression
from moeaudit.stats.contrast.cells import metric_score, pair
from moeaudit.stats.contrast.slots import Census
from moeaudit.stats.families.experts import Null, Shuffles, joint_p, nulls
from moeaudit.stats.sizes.equivalence import graded


def by_brute_force(slots, values):
    """|d_z| with the values of the scored experts in every order, the observed one first."""
    use, out = np.flatnonzero(np.isfinite(values)), []
    for order in permutations(use):
        moved = np.full(len(values), np.nan)
        moved[use] = values[list(order)]
        d = pair(
            slots, metric_score(slots, np.arange(len(values)), moved), "m", "metric"
        ).difference
        out.append(abs(d.mean()) / d.std(ddof=1))
    return np.array(out)


VALUES = {
    "distinct": [0.3, 2.0, 1.0, 5.0, 4.0],
    "ties": [0.0, 1.0, 0.0, 1.0, 1.0],
    "without a value": [np.nan, 1.0, 2.0, 3.0, 2.0],
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("gaps", [False, True])
def test_p_of_few_experts_is_that_of_all_their_orders(values, gaps):
    effects, _ = census(documents=8, tokens=10, experts=5, slope=0.2)
    if gaps:  # tokens with two active experts beside tokens with three
        effects = effects[(effects["rank"] < 2) | (effects.position % 2 == 0)]
    slots = Census(effects, "delta_nll").slots(1)
    shuffles = Shuffles.of(slots, 99, 0)
    assert shuffles.exact and len(shuffles.places) == 120
    one = [np.array([values])]
    (null,) = nulls(slots, one, np.zeros(len(slots.document), int), shuffles)
    sizes = by_brute_force(slots, np.array(values))
    assert null.p == pytest.approx((sizes >= sizes[0] * (1 - 1e-9)).mean(), abs=1e-12)
    assert abs(null.statistic[0]) == pytest.approx(sizes[0], abs=1e-12)


def test_every_draw_of_a_shuffle_is_the_contrast_of_the_moved_metric():
    effects, metrics = census(documents=6, tokens=9, experts=9)
    slots = Census(effects, "delta_nll").slots(2)
    shuffles = Shuffles.of(slots, 30, 4)
    values = np.random.default_rng(0).random((3, 9))
    values[1] = np.round(values[1] * 3)
    values[2, 4] = np.nan
    found = nulls(slots, [values], np.zeros(len(slots.document), int), shuffles)
    for m in (0, 1):
        for i in (0, 1, 30):
            moved = values[m][shuffles.places[i]]
            score = metric_score(slots, shuffles.expert, moved)
            d = pair(slots, score, "m", "metric").difference
            want = d.mean() / d.std(ddof=1)
            assert found[m].statistic[i] == pytest.approx(want, abs=1e-10)
    assert found[2].experts == 8


def test_renaming_the_experts_with_their_metric_changes_no_contrast():
    effects, metrics = census(experts=6, slope=0.1)
    new = np.random.default_rng(1).permutation(6)
    a = contrast(effects, metrics, controls=("random",), **QUICK)
    b = contrast(
        effects.assign(expert=new[effects.expert]),
        metrics.assign(expert=new[metrics.expert]),
        controls=("random",),
        **QUICK,
    )
    same = ["d_z", "p_maxt", "p_experts", "experts"]  # six experts: all orders are listed
    pd.testing.assert_frame_equal(a[same], b[same], check_exact=False, rtol=1e-10)


def test_noise_is_no_finding_where_experts_differ_and_documents_alone_would_say_so():
    # Every expert has a harm of its own and the metrics are drawn at random: over documents the
    # contrast of the two experts is real, and says nothing about metrics.
    audits, claimed, alone, raw = 100, 0, 0, []
    for seed in range(audits):
        rng = np.random.default_rng(seed)
        effects, _ = census(documents=12, tokens=12, layers=(0, 1), experts=12, seed=seed)
        own = rng.normal(0, 1.0, (2, 12))
        effects["delta_nll"] += own[effects.layer, effects.expert]
        metrics = pd.DataFrame(
            [
                (y, e, f"noise{k}", rng.random())
                for k in range(3)
                for y in (0, 1)
                for e in range(12)
            ],
            columns=["layer", "expert", "metric", "value"],
        )
        table = contrast(
            effects, metrics, controls=("random",), n_flips=199, n_shuffles=199,
            interval="jackknife", sesoi=0.02, withhold=False,
        )  # fmt: skip
        rows = table[table.role == "metric"]
        claimed += bool((rows.p_experts_maxt <= 0.05).any())
        alone += bool((rows.p_maxt <= 0.05).any())
        found = ~rows.verdict.isin(["inconclusive", "equivalent to none"])
        assert (rows.p_experts_maxt[found] <= 0.05).all()
        raw += rows.p_experts.tolist()
    most = stats.binom.isf(0.005, audits, 0.05)
    assert claimed <= most, f"{claimed} of {audits}, at most {most}"
    assert alone > audits / 2
    assert np.mean(np.array(raw) <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_joint_p_is_monotone_and_never_below_the_cell_and_leaves_out_what_has_no_p():
    rng = np.random.default_rng(0)
    family = []
    for shift in (0.0, 2.5, 5.0):
        draws = rng.normal(size=400)
        draws[0] += shift
        family.append(Null(draws, float((np.abs(draws) >= abs(draws[0])).mean()), 9))
    family.append(Null(np.empty(0), float("nan"), 1, "too few"))
    joint = joint_p(family)
    assert np.isnan(joint[3]) and joint[2] == 1 / 400
    assert (joint[:3] >= np.array([x.p for x in family[:3]]) - 1e-12).all()
    assert (np.diff(joint[:3]) <= 0).all()


PREDICTIVE = (0.001, 0.9, 0.3, 0.2, 0.4)


@pytest.mark.parametrize(
    ("numbers", "p_experts", "want"),
    [
        (PREDICTIVE, 0.01, ("predictive", "experts of this layer")),
        (PREDICTIVE, 0.2, ("inconclusive", "these experts")),
        (PREDICTIVE, np.nan, ("predictive", "these experts")),
        ((0.001, 0.9, -0.3, -0.4, -0.2), 0.01, ("reversed", "experts of this layer")),
        ((0.001, 0.5, 0.15, 0.05, 0.25), 0.01, ("present, size open", "experts of this layer")),
        ((0.001, 0.01, 0.05, 0.03, 0.07), 0.01, ("present but below", "experts of this layer")),
        ((0.001, 0.01, 0.05, 0.03, 0.07), 0.2, ("equivalent to none", "experts of this layer")),
        ((0.001, 0.01, 0.05, 0.03, 0.07), np.nan, ("present but below", "these experts")),
        ((0.3, 0.01, 0.01, -0.03, 0.05), 0.01, ("equivalent to none", "experts of this layer")),
        ((0.3, 0.01, 0.01, -0.03, 0.05), np.nan, ("equivalent to none", "these experts")),
        ((0.3, 0.5, 0.1, -0.1, 0.3), 0.01, ("inconclusive", None)),
        ((np.nan, np.nan, np.nan, np.nan, np.nan), 0.01, ("not estimable", None)),
    ],
)
def test_a_verdict_needs_documents_and_experts_and_says_whom_it_speaks_of(numbers, p_experts, want):
    assert graded(*numbers, bound=0.1, alpha=0.05, p_experts=p_experts) == want


@pytest.mark.parametrize("truth", [0.12, 0.2, 0.4])
def test_more_documents_never_take_an_effect_above_the_bound_back(truth):
    # The same estimate, known ever better: standard errors fall as documents grow.
    order = ["inconclusive", "present, size open", "predictive"]
    seen = []
    for se in np.geomspace(0.5, 0.001, 60):
        p = 2 * stats.norm.sf(truth / se)
        small = stats.norm.cdf((truth - 0.1) / se)
        limits = truth - 1.96 * se, truth + 1.96 * se
        verdict, _ = graded(p, small, truth, *limits, bound=0.1, alpha=0.05, p_experts=0.01)
        seen.append(order.index(verdict))
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 2


def test_each_metric_stands_as_a_share_of_the_oracle_and_luck_has_a_band():
    effects, metrics = census(documents=40, slope=0.5)
    table = contrast(effects, metrics, **QUICK)
    rows = table[(table.metric == "id") & (table.layer == 1)].iloc[0]
    assert rows.of_oracle == pytest.approx(rows.d_z / rows.d_z_oracle, abs=1e-12)
    assert rows.null_low < 0 < rows.null_high < rows.d_z
    assert rows.experts == 8 and rows.p_experts < 0.01 and rows.no_experts is None
    score = table[table.metric == "random_score"]
    assert (score.role == "control").all() and score.p_experts.notna().all()
    assert table[table.metric == "random"].no_experts.str.contains("each token").all()
    nothing = contrast(census(documents=4)[0], metrics, **QUICK)
    assert nothing.of_oracle[nothing.no_oracle.notna()].isna().all()


def test_pooled_averages_the_shuffles_of_the_layers():
    effects, metrics = census(documents=20, slope=0.2)
    table = pooled(effects, metrics, **QUICK).set_index("metric")
    assert table.p_experts["id"] < 0.01 and table.experts["id"] == 16
    assert table.supports["id"] == "experts of this layer"
    assert table.null_low["id"] < 0 < table.null_high["id"]
    assert pd.isna(table.p_experts["gate_weight"]) and table.no_experts["gate_weight"]


@pytest.mark.parametrize("model", ["cluster", "within_token"])
def test_slopes_are_shuffled_and_the_first_draw_is_the_slope_itself(model):
    from moeaudit.stats.families.slopes import slope_null

    effects, metrics = census(documents=10, slope=0.1)
    metrics.loc[
        (metrics.expert == 3) & (metrics.layer == 1) & (metrics.metric == "id"), "value"
    ] = np.nan
    table = regression(effects, metrics, models=(model,), controls=("random_score",))
    every = [Census(effects, "delta_nll").slots(y) for y in (1, 2)]
    shuffles = [Shuffles.of(s, 999, 0) for s in every]
    for name in ("id", "odd"):
        values = [
            metrics[(metrics.layer == y) & (metrics.metric == name)].value.to_numpy(float)
            for y in (1, 2)
        ]
        null = slope_null(every, values, shuffles, model)
        row = table[table.metric == name].iloc[0]
        assert null.statistic[0] == pytest.approx(row.slope, abs=1e-10)
        assert row.p_experts == null.p and row.experts == null.experts
        # One shuffle by hand: the slope of the moved metric.
        moved = metrics[metrics.metric == name].copy()
        for y, s, x in zip((1, 2), shuffles, values):
            use = np.isfinite(x)
            new = x.copy()
            new[use] = x[use][s.among(use)[7]]
            moved.loc[moved.layer == y, "value"] = new
        again = regression(effects, moved, models=(model,), controls=("random",))
        assert null.statistic[7] == pytest.approx(again.slope[0], abs=1e-10)
