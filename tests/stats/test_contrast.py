"""The within-token contrast on small censuses whose answer is known by hand or by another library."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from made.census import QUICK, by_hand, census, unexplained
from scipy import stats

from moeaudit.errors import InputError
from moeaudit.stats import Defects, Family, contrast, get_protocol, sign_flip_p


def cell(table, metric, layer):
    return table[(table.metric == metric) & (table.layer == layer)].iloc[0]


def test_numbers_of_a_cell_equal_scipy_and_statsmodels():
    effects, metrics = census(slope=0.2)
    table = contrast(effects.sample(frac=1, random_state=1), metrics, **QUICK)
    document, difference = by_hand(effects, 2)
    row = cell(table, "id", 2)
    assert row.n == len(difference) and row.n_documents == 12 and row.n_dropped == 0
    assert row.mean_difference == pytest.approx(difference.mean(), abs=1e-12)
    assert row.d_z == pytest.approx(difference.mean() / difference.std(ddof=1), abs=1e-12)
    assert row.p_t == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=1e-12)
    assert row.p_wilcoxon == pytest.approx(stats.wilcoxon(difference).pvalue, abs=1e-12)
    fit = sm.OLS(difference, np.ones_like(difference)).fit(
        cov_type="cluster", cov_kwds={"groups": document}, use_t=True
    )
    assert row.p_cluster == pytest.approx(fit.pvalues[0], abs=1e-10)
    iid = difference.var(ddof=1) / len(difference)
    assert row.design_effect == pytest.approx(fit.bse[0] ** 2 / iid, abs=1e-10)


def test_interval_equals_resampling_the_documents_themselves():
    effects, metrics = census(slope=0.2)
    row = cell(contrast(effects, metrics, n_boot=4000, n_flips=50), "id", 1)
    document, difference = by_hand(effects, 1)
    groups = [difference[document == d] for d in range(12)]
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(4000):
        x = np.concatenate([groups[i] for i in rng.integers(0, 12, 12)])
        draws.append(x.mean() / x.std(ddof=1))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert row.d_z_low == pytest.approx(low, abs=0.03)
    assert row.d_z_high == pytest.approx(high, abs=0.03)


def test_a_strong_metric_is_predictive_its_opposite_reversed_and_controls_stand_beside():
    effects, metrics = census(documents=40, slope=1.0)
    opposite = metrics[metrics.metric == "id"].assign(metric="opposite", value=lambda t: -t.value)
    table = contrast(effects, pd.concat([metrics, opposite]), **QUICK)
    assert set(table[table.metric == "id"].verdict) == {"predictive"}
    assert set(table[table.metric == "opposite"].verdict) == {"reversed"}
    assert set(table[table.metric == "heldout_causal"].verdict) == {"predictive"}
    assert set(table[table.metric == "random"].verdict) <= {"inconclusive", "equivalent to none"}
    controls = table[table.role == "control"]
    assert set(controls.metric) == {"random", "random_score", "gate_weight", "heldout_causal"}
    assert set(controls.family_size) == {2} and set(table[table.role == "metric"].family_size) == {
        6
    }


def test_equivalence_needs_enough_documents():
    few, metrics = census(documents=12, tokens=4)
    many, _ = census(documents=400, tokens=12)
    assert set(cell(contrast(few, metrics, **QUICK), "id", y).verdict for y in (1, 2)) == {
        "too few documents to say"
    }
    table = contrast(many, metrics, **QUICK, sesoi=0.2)
    assert set(table[table.metric == "id"].verdict) == {"equivalent to none"}


def test_gate_weight_is_first_rank_against_last():
    effects, metrics = census()
    row = cell(contrast(effects, metrics, **QUICK), "gate_weight", 1)
    part = effects[effects.layer == 1]
    first = part[part["rank"] == 0].delta_nll.mean()
    last = part[part["rank"] == 2].delta_nll.mean()
    assert row.mean_difference == pytest.approx(first - last, abs=1e-12)


def test_heldout_score_never_sees_its_own_documents():
    # One expert is harmful in document 0 alone. Elsewhere it is the mildest, so for document 0 an
    # honest held-out score must rank it last and the contrast there is strongly negative.
    effects, metrics = census(documents=8, tokens=6, layers=(1,), experts=3)
    effects["delta_nll"] = effects["expert"].astype(float)
    own = (effects.document == 0) & (effects.expert == 0)
    effects.loc[own, "delta_nll"] = 100.0
    table = contrast(effects, metrics, **QUICK, n_folds=8)
    row = cell(table, "heldout_causal", 1)
    # In document 0 the pair is expert 2 against expert 0; in the others expert 0 looks worst.
    expected = (6 * (2 - 100) + 42 * (0 - 1)) / 48
    assert row.mean_difference == pytest.approx(expected, abs=1e-12)


def test_ties_are_averaged_and_counted_and_all_tied_tokens_dropped():
    effects, metrics = census()
    row = cell(contrast(effects, metrics, **QUICK), "odd", 1)
    part = effects[effects.layer == 1].assign(odd=lambda t: t.expert % 2)
    means = part.groupby(["document", "position", "odd"]).delta_nll.mean().unstack()
    both = (means[1] - means[0]).dropna()
    assert row.n == len(both) and row.n_dropped == 120 - len(both) == row.n_all_tied
    assert row.n_tied == row.n  # three experts of two parities: one side always ties
    assert row.mean_difference == pytest.approx(both.mean(), abs=1e-12)


def test_unscored_experts_are_not_compared_and_counted():
    effects, metrics = census()
    metrics = metrics[metrics.expert < 4]
    row = cell(contrast(effects, metrics, **QUICK), "id", 1)
    part = effects[(effects.layer == 1) & (effects.expert < 4)]
    sizes = part.groupby(["document", "position"]).size()
    assert row.n == (sizes >= 2).sum() and row.n_unscored == 120 - row.n
    assert row.n_partial == (sizes == 2).sum()


def test_same_seed_same_table_and_rows_in_any_order():
    effects, metrics = census()
    a = contrast(effects, metrics, **QUICK, seed=3)
    b = contrast(effects.sample(frac=1, random_state=0), metrics.iloc[::-1], **QUICK, seed=3)
    keys = ["metric", "layer"]
    a, b = (t.sort_values(keys).reset_index(drop=True) for t in (a, b))
    pd.testing.assert_frame_equal(a, b, rtol=1e-9)


def test_disturbance_uses_the_magnitude():
    effects, metrics = census()
    a = contrast(effects, metrics, outcome="abs_delta_nll", **QUICK)
    b = contrast(effects, metrics, outcome="kl", **QUICK)
    np.testing.assert_allclose(a.d_z.to_numpy(float), b.d_z.to_numpy(float))


def test_published_protocol_takes_200_shared_positions_five_layers_four_metrics():
    effects, metrics = census(documents=30, tokens=20, layers=tuple(range(7)))
    id_ = metrics[metrics.metric == "id"]
    names = ("utilisation", "activation_norm", "mean_weight", "activation_sd")
    four = pd.concat([id_.assign(metric=n) for n in names])
    table = contrast(effects, four, protocol="engmann2026", **QUICK)
    tests = table[table.role == "metric"]
    assert set(tests.layer) == {0, 1, 3, 4, 6} and len(tests) == 20
    assert set(tests.n + tests.n_dropped) == {200}
    assert tests.groupby("layer").mean_difference.nunique().max() == 1  # one draw for all metrics
    np.testing.assert_allclose(
        tests.p_bonferroni.to_numpy(float), np.minimum(1, 20 * tests.p_t.to_numpy(float))
    )
    own = get_protocol("engmann2026").with_(defects=Defects(own_positions_per_metric=True))
    apart = contrast(effects, four, protocol=own, **QUICK)
    assert apart[apart.role == "metric"].groupby("layer").mean_difference.nunique().min() == 4


def test_a_defect_of_the_tables_must_be_declared_by_the_table():
    effects, metrics = census()
    protocol = get_protocol("moeaudit").with_(defects=Defects(padding_in_metrics=True))
    with pytest.raises(InputError, match="padding_in_metrics"):
        contrast(effects, metrics, protocol=protocol, **QUICK)
    metrics.attrs["defects"] = ["padding_in_metrics"]
    table = contrast(effects, metrics, protocol=protocol, **QUICK)
    assert table.attrs["defects"] == ["padding_in_metrics"]


@pytest.mark.parametrize("documents", [1, 2])
def test_few_documents_are_explained(documents):
    effects, metrics = census(documents=documents)
    table = contrast(effects, metrics, **QUICK)
    row = cell(table, "id", 1)
    if documents == 1:
        assert row.verdict == "not estimable" and "2 documents" in row.reason
        assert pd.isna(row.p) and not pd.isna(row.d_z)
    else:
        assert row.verdict == "too few documents to say" and row.reason is None
        assert row.too_few == "2 documents, and a verdict needs 12"
    assert unexplained(table) == []


def test_constant_metric_and_equal_effects_are_not_estimable_with_a_reason():
    effects, metrics = census()
    flat = metrics[metrics.metric == "id"].assign(metric="flat", value=1.0)
    row = cell(contrast(effects, pd.concat([metrics, flat]), **QUICK), "flat", 1)
    assert row.verdict == "not estimable" and "tie" in row.reason and row.n_dropped == 120
    row = cell(contrast(effects.assign(delta_nll=0.0), metrics, **QUICK), "id", 1)
    assert row.verdict == "not estimable" and "same" in row.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, m: (e.drop(columns="rank"), m), "lacks the column rank"),
        (lambda e, m: (e, m.drop(columns="value")), "lacks the column value"),
        (lambda e, m: (e.assign(delta_nll=np.nan), m), "NaN or infinite"),
        (lambda e, m: (e.replace({"delta_nll": {e.delta_nll[0]: np.inf}}), m), "NaN or infinite"),
        (lambda e, m: (e.iloc[:0], m), "no rows"),
        (lambda e, m: (e, m.iloc[:0]), "no rows"),
        (lambda e, m: (pd.concat([e, e]), m), "more than once"),
        (lambda e, m: (e, pd.concat([m, m])), "more than once"),
        (lambda e, m: (e, m.assign(expert=m.expert + 100)), "No expert active in layer 1"),
        (lambda e, m: (e, m.assign(layer=m.layer + 10)), "No expert active in layer 1"),
        (lambda e, m: (e, m.assign(value=np.inf)), "Infinite"),
        (lambda e, m: ([1, 2], m), "DataFrame"),
    ],
)
def test_bad_tables_are_refused(change, message):
    effects, metrics = change(*census())
    with pytest.raises(InputError, match=message):
        contrast(effects, metrics, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outcome": "loss"}, "Unknown outcome"),
        ({"protocol": "ours"}, "Unknown protocol"),
        ({"controls": ()}, "No control"),
        ({"controls": ("placebo",)}, "Unknown control"),
        ({"sesoi": 0.0}, "SESOI"),
        ({"sesoi": -0.1}, "SESOI"),
        ({"alpha": 1.5}, "alpha"),
        ({"layers": [9]}, "no layer"),
        ({"layers": []}, "empty list"),
        ({"interval": "exact"}, "Unknown interval"),
        ({"sizes": ("d",)}, "Unknown effect size"),
        ({"bootstraps": 3}, "no setting bootstraps"),
        ({"protocol": "engmann2026"}, "utilization_rate"),
    ],
)
def test_bad_options_are_refused(options, message):
    effects, metrics = census()
    with pytest.raises(InputError, match=message):
        contrast(effects, metrics, **options)


def test_a_declared_family_must_be_what_is_tested():
    effects, metrics = census()
    cells = tuple((m, y) for m in ("id", "odd") for y in (1, 2))
    table = contrast(effects, metrics, family=Family("declared", cells), **QUICK)
    assert set(table[table.role == "metric"].family_size) == {4}
    with pytest.raises(InputError, match="declared but not tested"):
        contrast(effects, metrics, family=Family("more", (*cells, ("id", 3))), **QUICK)
    with pytest.raises(InputError, match="tested but not declared"):
        contrast(effects, metrics, family=Family("fewer", cells[:2]), **QUICK)


def test_few_or_very_uneven_documents_carry_a_caution():
    effects, metrics = census(documents=24, tokens=3)
    assert contrast(effects, metrics, **QUICK).caution.str.contains("only 24 documents").all()
    effects, metrics = census(documents=50, tokens=20)
    assert contrast(effects, metrics, **QUICK).caution.isna().all()
    effects, metrics = census(documents=40, tokens=30)
    assert contrast(effects, metrics, **QUICK).caution.str.contains("power may be").all()
    # One document of 30 tokens, the others of 2: worth (30 + 78)^2 / (900 + 39 * 4) = 11 documents.
    uneven = effects[(effects.document == 0) | (effects.position < 2)]
    caution = cell(contrast(uneven, metrics, **QUICK), "id", 1).caution
    assert "40 documents count as 11.0" in caution
    effects, metrics = census(documents=25, tokens=8)
    assert contrast(effects, metrics, **QUICK).caution.str.contains("tokens: with heavy").all()


def test_the_oracle_of_the_layer_stands_beside_each_metric():
    effects, metrics = census(documents=30, slope=0.5)
    table = contrast(effects, metrics, **QUICK)
    for layer in (1, 2):
        rows = table[table.layer == layer]
        want = rows[rows.metric == "heldout_causal"].d_z.iloc[0]
        assert (rows.d_z_oracle == want).all() and want > 0.5
    without = contrast(effects, metrics, controls=("random",), **QUICK)
    assert "d_z_oracle" not in without


def test_effects_may_come_from_a_folder_that_reads_itself():
    effects, metrics = census()

    class Folder:
        def read(self):
            return effects

    a, b = (contrast(e, metrics, **QUICK) for e in (effects, Folder()))
    pd.testing.assert_frame_equal(a, b)


def test_rank_tests_flip_the_signed_ranks_of_documents():
    effects, metrics = census(documents=9, slope=0.1)
    row = cell(contrast(effects, metrics, **QUICK), "id", 1)
    document, x = by_hand(effects, 1)
    signed = np.sign(x) * stats.rankdata(np.abs(x))
    sums = np.bincount(document, signed)
    assert row.p_rank_flip == pytest.approx(sign_flip_p(sums), abs=1e-12)
    # With every token its own document the plain t of the flips orders them as Wilcoxon's W does.
    few = x[:12]
    w = np.sign(few) * stats.rankdata(np.abs(few))
    exact = stats.wilcoxon(few, method="exact").pvalue
    assert sign_flip_p(w, statistic="t") == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("tokens", [1, 2])
def test_no_null_without_a_reason_however_little_there_is(tokens):
    effects, metrics = census(documents=2, tokens=tokens)
    for protocol in ("moeaudit", get_protocol("engmann2026").with_(metrics=("id",), n_layers=None)):
        for interval in ("jackknife", "bca", "percentile", "cluster"):
            table = contrast(effects, metrics, protocol=protocol, interval=interval, **QUICK)
            assert unexplained(table) == []
            assert (table[table.reason.notna()].verdict == "not estimable").all()
            floats = table.select_dtypes("number").to_numpy(float, na_value=0.0)
            assert np.isfinite(floats).all()
