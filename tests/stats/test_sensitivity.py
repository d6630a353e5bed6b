"""Verdicts under another smallest effect of interest, against the analysis done again with it."""

from __future__ import annotations

import pandas as pd
import pytest
from made import synthetic

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.stats import contrast, together, verdicts_at, verdicts_over

COLUMNS = [
    *("sesoi", "sesoi_nats", "p_tost", "p_equivalence", "p_tost_crossed", "p_equivalence_crossed"),
    *("verdict", "verdict_these_experts"),
]
BOUNDS = [0.02, 0.3, "0.001nats", "0.1nats", "50%harm", "500%harm"]
FAST = {"n_shuffles": 99, "n_flips": 499, "controls": ("random", "heldout_causal")}


@pytest.fixture(scope="module")
def real():
    """Effects and metrics of a bundled model: one layer, sixteen documents."""
    model = ma.load("tiny-olmoe")
    docs = ma.corpus("bundled", split="test").sample(2, seed=0, per_domain=True)
    other = ma.corpus("bundled", split="calibration").sample(2, seed=0, per_domain=True)
    effects = ma.ablate(model, docs, ma.Zero(), layers=[7], max_length=96)
    metrics = ma.expert_metrics(ma.capture(model, other, max_length=96))
    names = ["utilisation", "mean_weight", "reap", "vocabulary_specialisation"]
    return effects, metrics[metrics["metric"].isin(names)]


@pytest.fixture(scope="module")
def made_up():
    tables = synthetic.tables(documents=14, tokens=30, layers=3)
    return tables["effects"], tables["experts"]


def asked_again(data, outcome, sesoi):
    return contrast(*data, outcome=outcome, sesoi=sesoi, **FAST)


@pytest.mark.parametrize("name", ["real", "made_up"])
@pytest.mark.parametrize("outcome", ["delta_nll", "kl"])
def test_equals_the_contrast_with_that_bound(request, name, outcome):
    data = request.getfixturevalue(name)
    table = asked_again(data, outcome, 0.1)
    words = set()
    for sesoi in BOUNDS:
        want, got = asked_again(data, outcome, sesoi), verdicts_at(table, sesoi)
        pd.testing.assert_frame_equal(got[COLUMNS], want[COLUMNS], check_exact=True)
        assert got["supports"].fillna("").tolist() == want["supports"].fillna("").tolist()
        words |= set(got["verdict"])
        counts = verdicts_over(table, [sesoi]).iloc[0]
        of_metrics = want[want["role"] == "metric"]["verdict"].value_counts()
        assert {w: int(counts[w]) for w in of_metrics.index} == of_metrics.to_dict()
        assert counts["cells"] == of_metrics.sum()
    assert {"inconclusive", "equivalent to none"} <= words, "the grid goes from open to decided"


def test_a_table_read_back_from_parquet_knows_as_much(made_up, tmp_path):
    table = together([asked_again(made_up, name, 0.1) for name in ("delta_nll", "kl")])
    table.to_parquet(tmp_path / "tests.parquet")
    back = pd.read_parquet(tmp_path / "tests.parquet")
    pd.testing.assert_frame_equal(verdicts_over(back), verdicts_over(table))


def test_an_outcome_has_rows_for_the_bounds_it_has_a_unit_for(made_up):
    table = together([asked_again(made_up, name, 0.1) for name in ("kl", "flip")])
    found = verdicts_over(table, [0.1, "0.01nats", "50%harm"])
    assert found[found["outcome"] == "kl"]["sesoi"].tolist() == ["0.1", "0.01nats", "50%harm"]
    assert found[found["outcome"] == "flip"]["sesoi"].tolist() == ["0.1"]
    with pytest.raises(InputError, match="flip is not in nats"):
        verdicts_at(table, "0.01nats")


def test_words_that_no_bound_decides_stand(made_up):
    effects, metrics = made_up
    reasons = {"easy_ep": "the model has no numbers for it"}
    table = contrast(effects, metrics, reasons=reasons, withhold=False, **FAST)
    few = table["metric"] == "reap"
    table.loc[few, "verdict"] = "too few documents to say"
    got = verdicts_at(table, 5.0)
    assert set(got.loc[few, "verdict"]) == {"too few documents to say"}
    absent = got["metric"] == "easy_ep"
    assert set(got.loc[absent, "verdict"]) == {"not estimable"}
    assert got.loc[absent, "sesoi"].isna().all()
    counts = verdicts_over(table, [5.0]).iloc[0]
    assert counts["too few documents to say"] == counts["not estimable"] == 3


def test_without_claims_of_equivalence_sizes_are_not_judged(made_up):
    table = contrast(*made_up, equivalence=None, **FAST)
    got = verdicts_at(table, 0.001)
    assert "p_equivalence" not in got
    assert got["verdict"].tolist() == table["verdict"].tolist()


def test_what_is_missing_is_named(made_up):
    table = contrast(*made_up, **FAST)
    with pytest.raises(InputError, match="d_z_skewness"):
        verdicts_at(table.drop(columns="d_z_skewness"), 0.1)
    bare = table.copy()
    bare.attrs = {}
    with pytest.raises(InputError, match="does not say how its contrasts of delta_nll were made"):
        verdicts_over(bare)
    with pytest.raises(InputError, match="holds no such contrast"):
        verdicts_at(table.iloc[:0], 0.1)
