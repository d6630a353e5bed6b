"""Experts as a sample beside documents: the interval against dyads by hand, and that it covers."""

from __future__ import annotations

import numpy as np
import pytest
from made.census import QUICK, census

from moeaudit.stats import contrast, pooled, regression
from moeaudit.stats.families.crossed import (
    OverExperts,
    averaged,
    d_z_over_experts,
    slope_over_experts,
    unknown,
)
from moeaudit.stats.sizes.beyond import p_beyond
from moeaudit.stats.sizes.equivalence import OPEN, PREDICTIVE, graded
from moeaudit.stats.sizes.limits import Spread, adjusted_limits


def simulated(seed, experts=16, documents=30, tokens=20, spread=0.3, slope=0.2):
    """Differences of two of four active experts, chosen by a metric; experts have effects of their own."""
    rng = np.random.default_rng(seed)
    n = documents * tokens
    metric, own = rng.normal(size=experts), spread * rng.normal(size=experts)
    active = np.argsort(rng.random((n, experts)), axis=1)[:, :4]
    rows = np.arange(n)
    top = active[rows, metric[active].argmax(axis=1)]
    bottom = active[rows, metric[active].argmin(axis=1)]
    effect = slope * metric + own
    d = effect[top] - effect[bottom] + rng.standard_t(5, n)
    return d, np.repeat(np.arange(documents), tokens), np.stack([top, bottom], axis=1)


def by_loops(d, document, pair):
    """The same from pairs of tokens, one at a time."""
    n, names = len(d), np.unique(pair)
    left = []
    for e in names:
        rest = d[(pair != e).all(axis=1)]
        left.append(rest.mean() / rest.std(ddof=1))
    k = len(names)
    jackknife = (k - 1) / k * ((np.array(left) - np.mean(left)) ** 2).sum()
    theta = d.mean() / d.std(ddof=1)
    z = (d - d.mean()) / d.std(ddof=1)
    psi = (z - theta * (z**2 - 1) / 2) / n
    shared = 0.0
    for t in range(n):
        for s in range(n):
            common = len(set(pair[t]) & set(pair[s]))
            if document[t] == document[s]:
                shared += common * psi[t] * psi[s]  # the documents' part has these
            elif common == 2:
                shared += psi[t] * psi[s]  # counted once for each of the two experts
    return (jackknife - shared) * k / (k - 2)


def test_the_experts_part_is_that_of_dyads_token_by_token():
    d, document, pair = simulated(0, experts=8, documents=6, tokens=20, spread=1.0)
    assert d_z_over_experts(d, document, pair).variance == pytest.approx(
        by_loops(d, document, pair), rel=1e-9
    )


def test_names_of_experts_and_which_is_first_do_not_matter():
    d, document, pair = simulated(1)
    want = d_z_over_experts(d, document, pair)
    new = np.random.default_rng(0).permutation(100)[:16]
    got = d_z_over_experts(d, document, new[pair])
    assert got.variance == pytest.approx(want.variance) and got.dof == pytest.approx(want.dof)
    turned = d_z_over_experts(-d, document, pair[:, ::-1])
    assert turned.variance == pytest.approx(want.variance)


def test_it_finds_the_variance_that_experts_give():
    """The mean of the estimated part is that of estimates over draws of experts and documents."""
    found = [simulated(seed, experts=24, spread=0.5, slope=0.0) for seed in range(300)]
    estimate = [d.mean() / d.std(ddof=1) for d, _, _ in found]
    by_document = [
        np.array([d[m == i].mean() for i in range(30)]).std(ddof=1) ** 2 / 30 / d.var()
        for d, m, _ in found
    ]
    part = np.mean([d_z_over_experts(*x).variance for x in found])
    assert part + np.mean(by_document) == pytest.approx(np.var(estimate), rel=0.25)


def test_limits_are_never_shorter_than_those_by_document_and_say_why_they_are_missing():
    part = OverExperts(0.0004, 10.0)
    low, high = part.around(0.1, 0.06, 0.16, 0.95)
    assert low < 0.06 and high > 0.16
    assert OverExperts(0.0, 10.0).around(0.1, 0.06, 0.16, 0.95) == pytest.approx((0.06, 0.16))
    assert np.isnan(unknown("no").around(0.1, 0.06, 0.16, 0.95)).all()
    d, document, pair = simulated(2, experts=5)  # two of four: the middle one is in no pair
    assert d_z_over_experts(d, document, pair).reason.startswith("only 4 experts")
    assert "not known" in d_z_over_experts(d, document, None).reason
    d, document, pair = simulated(2)
    assert "no spread" in d_z_over_experts(np.ones(len(d)), document, pair).reason


def test_a_mean_over_layers_averages_the_parts():
    both = averaged([OverExperts(0.04, 8.0), OverExperts(0.04, 8.0)])
    assert (both.variance, both.dof) == pytest.approx((0.02, 16.0))
    assert averaged([OverExperts(0.04, 8.0), unknown("few")]).reason == "few"


def test_a_size_of_the_layer_is_tested_with_experts_as_a_sample():
    given = {"bound": 0.1, "alpha": 0.05}
    shown = (0.001, 0.9, 0.2, 0.15, 0.25)
    assert graded(*shown, p_experts=0.01, p_beyond=0.04, **given)[0] == PREDICTIVE
    assert graded(*shown, p_experts=0.01, p_beyond=0.06, **given)[0] == OPEN
    assert graded(*shown, p_experts=0.01, p_beyond=np.nan, **given)[0] == OPEN
    effects, metrics = census(documents=40, tokens=40, experts=9, slope=0.2)
    given = {"layers": [1], "controls": ("random",), **QUICK}
    only = metrics[metrics["metric"] == "id"]
    row = contrast(effects, only, sesoi=0.1, **given).iloc[0]
    between = (row["d_z_low"] + row["d_z_crossed_low"]) / 2
    row = contrast(effects, only, sesoi=between, **given).iloc[0]
    assert row["p_beyond_these"] <= 0.05 < row["p_beyond"]
    assert (row["verdict"], row["verdict_these_experts"]) == (OPEN, PREDICTIVE)


def test_p_beyond_is_the_level_at_which_limits_meet_the_bound():
    left = 0.3 + np.random.default_rng(0).gamma(2, 0.002, 40)
    for sign in (1, -1):
        p = p_beyond(sign * 0.3, Spread.of(sign * left), 0.22)
        low, high = adjusted_limits(sign * 0.3, sign * left, 1 - p)
        assert (low if sign > 0 else -high) == pytest.approx(0.22, abs=1e-5)
        longer = p_beyond(
            sign * 0.3, Spread.of(sign * left), 0.22, around=OverExperts(1e-4, 9.0).around
        )
        assert longer > p
    assert p_beyond(0.3, Spread.of(left), 0.5) == 1
    assert np.isnan(p_beyond(0.3, Spread.of(left), 0.2, around=unknown("no").around))


def test_tables_hold_them_beside_the_limits_by_document():
    effects, metrics = census(documents=30, tokens=12, experts=12, slope=0.4)
    for table in (contrast(effects, metrics, **QUICK), pooled(effects, metrics, **QUICK)):
        known = table[table["no_crossed"].isna()]
        assert set(table.loc[table["no_crossed"].notna(), "metric"]) == {"random", "gate_weight"}
        assert (known["d_z_crossed_low"] <= known["d_z_low"]).all()
        assert (known["d_z_crossed_high"] >= known["d_z_high"]).all()
        assert table.loc[table["no_crossed"].notna(), "d_z_crossed_low"].isna().all()


def test_a_slope_has_its_experts_part_and_says_where_there_is_none():
    effects, metrics = census(documents=30, tokens=10, experts=10, slope=0.3)
    given = {"n_shuffles": 19, "controls": ("random", "random_score")}
    table = regression(effects, metrics, models=("cluster", "within_token"), **given)
    known = table[table["no_crossed"].isna()]
    assert set(known["metric"]) == {"id", "odd", "random_score"}
    assert (known["slope_crossed_low"] <= known["slope_low"]).all()
    assert (known["slope_crossed_high"] >= known["slope_high"]).all()
    assert set(table.loc[table["no_crossed"].notna(), "metric"]) == {"random"}
    assert table["too_few"].isna().all()
    few = regression(effects[effects["document"] < 9], metrics, models=("cluster",), **given)
    assert set(few["too_few"]) == {"9 documents, and a verdict needs 12"}


def test_the_experts_part_of_a_slope_is_that_of_slopes_over_new_experts():
    estimates, parts, within = [], [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        metric, own = rng.normal(size=20), 0.4 * rng.normal(size=20)
        expert, document = rng.integers(0, 20, 1500), np.repeat(np.arange(30), 50)
        x, y = metric[expert], (0.2 * metric + own)[expert] + rng.normal(size=1500)
        x, y = x - x.mean(), y - y.mean()
        estimates.append((x * y).sum() / (x * x).sum())
        parts.append(slope_over_experts(x, y, expert, document).variance)
        within.append(1 / (x * x).sum())  # of independent tokens, deviation 1
    assert np.mean(parts) + np.mean(within) == pytest.approx(np.var(estimates), rel=0.25)
