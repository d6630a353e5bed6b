"""Means with limits by document against statsmodels, against resampling rows, and from shards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from made.census import census
from made.shards import Cut
from scipy import stats

from moeaudit.errors import InputError
from moeaudit.stats.clustered import Clustered, over_seeds, safe_ratio_draws
from moeaudit.stats.sizes.bootstrap import document_weights

LAYERS = dict(by=["layer"], values=["delta_nll", "flip"])


def test_student_limits_are_the_cluster_robust_ones():
    effects = census(documents=9)[0].query("layer == 1")
    row = Clustered(**LAYERS, level=0.9)(effects).iloc[0]
    fit = sm.OLS(effects.delta_nll, np.ones(len(effects))).fit(
        cov_type="cluster", cov_kwds={"groups": effects.document, "use_correction": False}
    )
    reach = stats.t.isf(0.05, 8) * fit.bse.iloc[0] * np.sqrt(9 / 8)
    assert row.delta_nll == pytest.approx(effects.delta_nll.mean(), abs=1e-12)
    assert row.delta_nll_low == pytest.approx(row.delta_nll - reach, abs=1e-12)
    assert row.delta_nll_high == pytest.approx(row.delta_nll + reach, abs=1e-12)
    assert (row.rows, row.documents) == (len(effects), 9)


def test_percentile_limits_are_those_of_resampled_rows():
    effects = census(documents=5, tokens=4)[0].query("layer == 1")
    row = Clustered(**LAYERS, limits="percentile", n_boot=50, seed=3)(effects).iloc[0]
    parts = [part.delta_nll.to_numpy() for _, part in effects.groupby("document")]
    means = [
        np.concatenate([np.tile(p, int(k)) for p, k in zip(parts, times)]).mean()
        for times in document_weights(5, 50, 3)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    assert (row.delta_nll_low, row.delta_nll_high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("limits", ["student", "percentile"])
def test_shards_and_the_long_form_give_the_same_numbers(limits):
    effects, _ = census(documents=7)
    summary = Clustered(**LAYERS, limits=limits)
    whole = summary(effects)
    pd.testing.assert_frame_equal(summary(Cut(effects, 3)), whole, check_exact=True)
    long = summary.long(effects)
    assert list(long.series) == ["delta_nll", "flip"] * 2 and list(long.layer) == [1, 1, 2, 2]
    kept = long[long.series == "flip"]
    assert list(kept.value) == list(whole.flip) and list(kept.high) == list(whole.flip_high)


@pytest.mark.parametrize("limits", ["student", "percentile"])
def test_one_document_has_a_mean_and_no_interval(limits):
    effects, _ = census(documents=1)
    row = Clustered(**LAYERS, limits=limits)(effects).iloc[0]
    assert np.isfinite(row.delta_nll) and np.isnan([row.delta_nll_low, row.delta_nll_high]).all()


def test_sums_do_not_drift_in_half_or_single_precision():
    table = pd.DataFrame({"g": 0, "document": np.arange(40_000) % 2, "v": np.float32(0.1)})
    row = Clustered(["g"], ["v"])(table).iloc[0]
    assert row.v == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_unknown_limits_and_columns_are_refused():
    with pytest.raises(InputError, match="kind of limits"):
        Clustered(["layer"], ["kl"], limits="bayes")
    with pytest.raises(InputError, match="flip"):
        Clustered(**LAYERS)(census()[0].drop(columns="flip"))


def test_a_ratio_to_what_may_be_nothing_has_no_draws():
    weights = document_weights(6, 200, 0)
    above, below = np.arange(6.0), np.array([1.0, -1, 1, -1, 1, -1])
    assert safe_ratio_draws(above, below, weights) is None
    draws = safe_ratio_draws(above, above + 1, weights)
    assert draws == pytest.approx((weights @ above) / (weights @ (above + 1)))


def test_over_seeds_is_students_interval_and_says_why_there_is_none():
    table = pd.DataFrame({"arm": ["a", "a", "a", "b"], "seed": [0, 1, 2, 0], "nll": [1.0, 2, 6, 4]})
    found = over_seeds(table, ["arm"], ["nll"]).set_index("arm")
    half = stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert found.nll["a"] == 3 and found.nll_high["a"] - 3 == pytest.approx(half)
    assert found.seeds.tolist() == [3, 1] and np.isnan(found.nll_low["b"])
    assert found.reason.tolist() == [None, "one seed: no interval over seeds"]
    with pytest.raises(InputError, match="Two rows have the same arm and seed"):
        over_seeds(table.assign(seed=0), ["arm"], ["nll"])
