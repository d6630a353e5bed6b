"""Answers over all layers: pooled contrasts and regressions, against statsmodels on full designs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from made.census import QUICK, by_hand, census, unexplained
from scipy import stats

from moeaudit.stats import pooled, regression, sign_flip_p
from moeaudit.stats.sizes import power


def test_pooled_d_is_the_mean_over_layers_and_documents_flip_together():
    effects, metrics = census(documents=9, slope=0.2)
    table = pooled(effects, metrics, **QUICK).set_index("metric")
    d, sums = [], np.zeros(9)
    for layer in (1, 2):
        document, x = by_hand(effects, layer)
        d.append(x.mean() / x.std(ddof=1))
        sums += np.bincount(document, x) / (len(x) * x.std(ddof=1) * 2)
    assert table.d_z["id"] == pytest.approx(np.mean(d), abs=1e-12)
    assert table.p["id"] == pytest.approx(sign_flip_p(sums), abs=1e-12)
    assert table.n_layers["id"] == 2 and table.n["id"] == 180
    left = []
    for k in range(9):
        pairs = (by_hand(effects[effects.document != k], layer)[1] for layer in (1, 2))
        left.append(np.mean([x.mean() / x.std(ddof=1) for x in pairs]))
    se = np.sqrt(8 / 9 * ((left - np.mean(left)) ** 2).sum())
    assert table.d_z_se["id"] == pytest.approx(se, abs=1e-8)
    plain = pooled(effects, metrics, interval="jackknife", **QUICK).set_index("metric")
    half = stats.t.isf(0.025, 8) * se
    assert plain.d_z_high["id"] == pytest.approx(np.mean(d) + half, abs=1e-8)


def test_layers_that_share_tokens_do_not_count_twice():
    effects, metrics = census(documents=30, layers=(1,), slope=0.1)
    copy = pd.concat([effects, effects.assign(layer=2)])
    twice = pd.concat([metrics, metrics.assign(layer=2)])
    one = pooled(effects, metrics, **QUICK).set_index("metric")
    two = pooled(copy, twice, **QUICK).set_index("metric")
    for column in ("d_z", "d_z_se", "p", "mde"):
        assert two[column]["id"] == pytest.approx(one[column]["id"], abs=1e-12), column


def test_pooled_answers_say_what_would_have_decided_them():
    effects, metrics = census(documents=30, tokens=8, slope=0.02)
    for interval in ("adjusted", "bca", "percentile", "jackknife"):
        table = pooled(effects, metrics, interval=interval, **QUICK).set_index("metric")
        assert (table.d_z_low < table.d_z).all() and (table.d_z < table.d_z_high).all()
    row = table.loc["id"]
    level = 0.05 / row.family_size
    want = power.documents_to_decide(row.null_se, 30, 0.1, level, level)
    assert row.n_documents_to_decide == want > 30
    assert row.n_to_decide == np.ceil(want * row.n / 30)
    found = power.power_t(row.mde, row.null_se, 29.0, level)
    assert found == pytest.approx(0.8, abs=1e-6)
    assert row.power_at_sesoi == pytest.approx(power.power_t(0.1, row.null_se, 29.0, level))


def test_a_layer_without_a_contrast_is_counted():
    effects, metrics = census()
    metrics.loc[(metrics.layer == 2) & (metrics.metric == "id"), "value"] = 1.0
    row = pooled(effects, metrics, **QUICK).set_index("metric").loc["id"]
    assert row.n_layers == 1 and row.n_layers_dropped == 1 and row.reason is None
    metrics.loc[metrics.metric == "id", "value"] = 1.0
    row = pooled(effects, metrics, **QUICK).set_index("metric").loc["id"]
    assert row.verdict == "not estimable" and "no layer" in row.reason


@pytest.fixture
def rows():
    effects, metrics = census(documents=15, slope=0.1)
    table = effects.merge(metrics[metrics.metric == "id"], on=["layer", "expert"])
    z = table.groupby("layer").value
    return (
        effects,
        metrics,
        table.assign(x=(table.value - z.transform("mean")) / z.transform("std", ddof=0)),
    )


def slope(table, model, metric="id"):
    return table[(table.metric == metric) & (table.model == model)].iloc[0]


def test_clustered_regression_equals_statsmodels_with_layer_dummies(rows):
    effects, metrics, data = rows
    got = slope(regression(effects, metrics, models=("cluster",)), "cluster")
    fit = smf.ols("delta_nll ~ x + C(layer)", data).fit(
        cov_type="cluster", cov_kwds={"groups": data.document}, use_t=True
    )
    assert got.slope == pytest.approx(fit.params["x"], abs=1e-10)
    # statsmodels' factor (n - 1) / (n - k) counts the dummies: k = 3 there, 1 here.
    n = len(data)
    assert got.slope_se * np.sqrt((n - 1) / (n - 3)) == pytest.approx(fit.bse["x"], abs=1e-8)
    assert got.n == n and got.n_documents == 15 and got.n_dropped == 0
    assert power.power_t(got.mde, got.slope_se, 14.0, 0.05 / 2) == pytest.approx(0.8, abs=1e-6)


def test_within_token_regression_equals_token_dummies(rows):
    effects, metrics, data = rows
    got = slope(regression(effects, metrics, models=("within_token",)), "within_token")
    token = data.groupby(["document", "position", "layer"])
    y, x = (data[c] - token[c].transform("mean") for c in ("delta_nll", "x"))
    assert got.slope == pytest.approx((x * y).sum() / (x * x).sum(), abs=1e-10)
    fit = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": data.document}, use_t=True)
    assert got.slope_se == pytest.approx(fit.bse.iloc[0], abs=1e-8)
    assert got.p == pytest.approx(fit.pvalues.iloc[0], abs=1e-8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # statsmodels on small random effects
def test_mixed_model_equals_statsmodels_formula(rows):
    effects, metrics, data = rows
    got = slope(regression(effects, metrics, models=("mixed",)), "mixed")
    formula = "~x" if got.random == "intercept and slope" else "1"
    fit = smf.mixedlm("delta_nll ~ x + C(layer)", data, groups="document", re_formula=formula).fit()
    assert got.slope == pytest.approx(fit.params["x"], abs=1e-4)
    assert got.slope_se == pytest.approx(fit.bse["x"], rel=1e-2)
    capped = slope(regression(effects, metrics, models=("mixed",), max_tokens=150), "mixed")
    assert 300 < capped.n < 600 and capped.n + capped.n_dropped == len(effects)


def test_a_flat_metric_has_no_slope_and_says_so(rows):
    effects, metrics, _ = rows
    flat = metrics.assign(value=1.0)
    got = slope(regression(effects, flat, models=("cluster", "mixed")), "cluster")
    assert "does not vary" in got.reason or "document" in got.reason
    assert pd.isna(got.slope) and got.n_dropped == len(effects)


@pytest.mark.parametrize("documents", [1, 2])
def test_nothing_is_null_without_a_reason(documents):
    effects, metrics = census(documents=documents, tokens=3)
    for table in (pooled(effects, metrics, **QUICK), regression(effects, metrics)):
        assert unexplained(table) == []
        assert set(table.metric) == {
            *("id", "odd", "random", "random_score", "gate_weight", "heldout_causal")
        }
