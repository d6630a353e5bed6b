"""A metric that cannot be computed stands in the results, with its reason, and moves nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census

from moeaudit.stats import contrast, expert_harm, pooled, regression

WHY = {"easy_ep": "the experts of this model have no bias."}
SAID = "not estimable, because the experts of this model have no bias"


def with_null(metrics, name="easy_ep"):
    """The metrics and one more that is null for every expert."""
    null = metrics[metrics.metric == "id"].assign(metric=name, value=np.nan)
    return pd.concat([null, metrics], ignore_index=True)


@pytest.mark.parametrize("question", [contrast, expert_harm])
@pytest.mark.parametrize("given", ["null in the table", "named by its reason alone"])
def test_a_metric_without_values_has_a_row_a_layer_with_its_reason(question, given):
    effects, metrics = census(slope=0.2)
    plain = question(effects, metrics, **QUICK)
    table = with_null(metrics) if given == "null in the table" else metrics
    found = question(effects, table, reasons=WHY, **QUICK)
    rows = found[found.metric == "easy_ep"]
    assert list(rows.layer) == [1, 2] and set(rows.role) == {"metric"}
    assert set(rows.reason) == {SAID} and set(rows.verdict) == {"not estimable"}
    numbers = ["p", "p_maxt", "p_bonferroni", "p_equivalence", "mde", "family_size"]
    assert rows[numbers].isna().all(axis=None)
    assert (rows["n_dropped"] > 0).all()
    # Corrections of the others are over the others, as if it had not been asked for.
    rest = found[found.metric != "easy_ep"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, plain, check_exact=True)


@pytest.mark.parametrize("question", [contrast, expert_harm])
def test_without_a_reason_the_table_of_metrics_is_named(question):
    effects, metrics = census()
    found = question(effects, with_null(metrics), **QUICK)
    reason = found[found.metric == "easy_ep"].reason.iloc[0]
    assert reason.startswith("not estimable, because") and "metrics table" in reason


@pytest.mark.parametrize("question", [contrast, expert_harm])
def test_a_reason_for_a_metric_that_has_values_changes_nothing(question):
    effects, metrics = census()
    pd.testing.assert_frame_equal(
        question(effects, metrics, reasons={"id": "no reason at all"}, **QUICK),
        question(effects, metrics, **QUICK),
        check_exact=True,
    )


def test_a_metric_null_in_one_layer_stays_in_the_family():
    effects, metrics = census()
    metrics.loc[(metrics.metric == "id") & (metrics.layer == 1), "value"] = np.nan
    for question in (contrast, expert_harm):
        found = question(effects, metrics, **QUICK)
        assert set(found[found.role == "metric"].family_size) == {4}
        assert found[(found.metric == "id") & (found.layer == 1)].p.isna().all()


def test_pooled_keeps_it_out_of_the_family_as_well():
    effects, metrics = census(slope=0.2)
    found = pooled(effects, with_null(metrics), **QUICK)
    row = found[found.metric == "easy_ep"].iloc[0]
    assert row.reason.startswith("not estimable") and row.verdict == "not estimable"
    pd.testing.assert_frame_equal(
        found[found.metric != "easy_ep"].reset_index(drop=True),
        pooled(effects, metrics, **QUICK),
        check_exact=True,
    )


def test_a_regression_keeps_it_out_of_the_family_as_well():
    effects, metrics = census(slope=0.2)
    models = ("cluster", "within_token")
    plain = regression(effects, metrics, models=models, n_shuffles=99)
    found = regression(effects, with_null(metrics), models=models, reasons=WHY, n_shuffles=99)
    rows = found[found.metric == "easy_ep"]
    assert list(rows.model) == list(models) and set(rows.reason) == {SAID}
    numbers = ["slope", "p", "p_holm", "p_experts", "p_experts_maxt", "mde", "family_size"]
    assert rows[numbers].isna().all(axis=None) and (rows.n_dropped > 0).all()
    assert set(plain[plain.role == "metric"].family_size) == {2}
    pd.testing.assert_frame_equal(
        found[found.metric != "easy_ep"].reset_index(drop=True), plain, check_exact=True
    )
    assert found.attrs["analyses"][0]["metrics"] == ["id", "odd"]


def test_a_slope_says_whom_it_speaks_of():
    effects, metrics = census(documents=40, experts=12, slope=1.0)
    table = regression(effects, metrics, models=("cluster", "mixed"), n_shuffles=199)
    metric = table[table.role == "metric"]
    sure = metric[(metric.p_holm <= 0.05) & (metric.model == "cluster")]
    want = ["experts of this layer" if p <= 0.05 else "these experts" for p in sure.p_experts_maxt]
    assert list(sure.supports) == want and "experts of this layer" in want
    assert metric.supports[metric.p_holm > 0.05].isna().all()
    mixed = metric[(metric.model == "mixed") & (metric.p_holm <= 0.05)]
    assert len(mixed) and set(mixed.supports) == {"these experts"}
