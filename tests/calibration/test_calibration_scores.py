"""The table: what is in it, what it says where there is too little, and that it is repeatable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.predictions import predictions

from moeaudit.calibration import Predictions, calibration_scores, ece, kuiper, reliability
from moeaudit.calibration.scores.scores import COLUMNS, MEANING
from moeaudit.errors import InputError

DRAWS = 60


def with_groups(p: Predictions, group: np.ndarray) -> Predictions:
    return Predictions(p.confidence, p.correct, group, p.document, p.weight)


@pytest.fixture(scope="module")
def p() -> Predictions:
    plain = predictions(900, documents=60, power=1.4)
    return with_groups(plain, np.array(["a", "b", "c"])[plain.documents % 3])


@pytest.fixture(scope="module")
def table(p) -> pd.DataFrame:
    return calibration_scores(p, draws=DRAWS)


def test_every_stratum_has_every_score_and_above_all_the_gap(p, table):
    assert tuple(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["stratum"])) == ["all", "a", "b", "c"]
    expected = {s for s in MEANING if "class" not in s} - {"multicalibration"}
    for name, part in table.groupby("stratum"):
        assert set(part["score"]) - {"multicalibration"} == expected, name
        assert part["score"].iloc[0] == "gap"
    assert table["reason"].isna().all()
    numbers = table.select_dtypes("Float64").to_numpy(dtype=float, na_value=0.0)
    assert np.isfinite(numbers).all()
    row = table.set_index(["stratum", "score"])["value"]
    assert row["all", "ece_width_l1"] == pytest.approx(ece(p))
    assert row["b", "kuiper"] == pytest.approx(kuiper(p.take(p.group == "b")))
    assert row["all", "gap"] == pytest.approx(row["all", "confidence"] - row["all", "accuracy"])
    for loss in ("brier", "nll"):
        parts = row["all", f"{loss}_calibration"] + row["all", f"{loss}_refinement"]
        assert parts == pytest.approx(row["all", loss])


def test_limits_and_nulls_are_where_they_belong(table):
    row = table.set_index(["stratum", "score"])
    gap = row.loc[("all", "gap")]
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    assert abs(gap["null_mean"]) < gap["null_high"] < gap["value"]
    for score in ("ece_mass_l1", "smece", "kuiper"):
        one = row.loc[("all", score)]
        assert 0 < one["null_mean"] < one["null_high"] < one["value"]
        assert one["p"] == pytest.approx(1 / (DRAWS + 1))
        assert one["high"] >= gap["high"] - 1e-12
    assert row.loc[("all", "multicalibration"), "p"] <= 2 / (DRAWS + 1)


def test_the_same_seed_gives_the_same_table_and_rows_in_any_order(p, table):
    pd.testing.assert_frame_equal(calibration_scores(p, draws=DRAWS), table)
    other = calibration_scores(p, draws=DRAWS, seed=1)
    assert not other["low"].equals(table["low"])
    assert other["value"].equals(table["value"])


def test_what_cannot_be_estimated_says_why():
    plain = predictions(300, documents=30)
    group = np.where(plain.documents == 0, "one document", "large").astype(object)
    group[:4] = "tiny"
    group[plain.documents == 5] = "right"
    correct = plain.correct.copy()
    correct[plain.documents == 5] = True
    p = Predictions(
        plain.confidence, correct, group, plain.document, declared=("empty", "large", "tiny")
    )
    group[plain.documents == 0] = "one document"
    table = calibration_scores(p, draws=DRAWS).set_index(["stratum", "score"])
    assert "no predictions" in table.loc[("empty", "gap"), "reason"]
    assert pd.isna(table.loc[("empty", "gap"), "value"])
    assert "1 document;" in table.loc[("right", "gap"), "reason"] or (
        pd.isna(table.loc[("right", "gap"), "value"])
    )
    assert table.loc[("all", "multicalibration"), "reason"] is not None


def test_an_effective_size_under_ten_is_not_estimable():
    plain = predictions(300, documents=30)
    weight = np.where(np.arange(300) < 5, 1.0, 1e-6)
    p = Predictions(plain.confidence, plain.correct, document=plain.document, weight=weight)
    table = calibration_scores(p, draws=DRAWS)
    assert table["value"].isna().all()
    assert table["reason"].str.contains("not estimable: an effective sample size of 5.0").all()


def test_one_document_gives_values_without_limits():
    p = predictions(200, documents=1)
    table = calibration_scores(p, draws=DRAWS).set_index("score")
    assert table.loc["gap", "value"] == pytest.approx((p.confidence - p.correct).mean())
    assert table["low"].isna().all() and table["p_documents"].isna().all()
    assert "1 document" in table.loc["gap", "reason"]
    assert "cross-fitting needs" in table.loc["brier_calibration", "reason"]


def test_a_single_class_and_certain_confidences():
    p = Predictions.of(np.linspace(0.5, 0.9, 100), np.ones(100), document=np.arange(100) // 4)
    table = calibration_scores(p, draws=DRAWS).set_index("score")
    assert "every prediction is correct" in table.loc["nll_calibration", "reason"]
    assert table.loc["gap", "value"] == pytest.approx(-0.3)
    certain = Predictions.of(np.ones(100), np.arange(100) % 10 > 0, document=np.arange(100) // 4)
    table = calibration_scores(certain, draws=DRAWS).set_index("score")
    assert "10 prediction(s) gave probability 0" in table.loc["nll", "reason"]
    assert "nothing is left to chance" in table.loc["kuiper_sigma", "reason"]
    assert table.loc["kuiper", "value"] == pytest.approx(0.1)


def test_weights_are_copies_within_documents():
    plain = predictions(300, documents=30, power=1.3)
    copies = np.random.default_rng(0).integers(1, 4, 300)
    weighted = Predictions(
        plain.confidence, plain.correct, document=plain.document, weight=copies.astype(float)
    )
    copied = plain.take(np.repeat(np.arange(300), copies))
    one = calibration_scores(weighted, draws=DRAWS).set_index("score")
    two = calibration_scores(copied, draws=DRAWS).set_index("score")
    # all but what counts independent rows: Kumar's correction and the null of outcomes
    kept = [s for s in one.index if "rows" not in s and s != "kuiper_sigma"]
    for column in ("value", "low", "high", "p_documents"):
        a, b = (t.loc[kept, column].to_numpy(float, na_value=-1.0) for t in (one, two))
        assert a == pytest.approx(b, abs=1e-5), column


def test_a_table_of_predictions_may_be_given():
    frame = pd.DataFrame({"confidence": [0.2, 0.9] * 20, "correct": [0, 1] * 20})
    table = calibration_scores(frame, draws=DRAWS)
    assert set(table["stratum"]) == {"all"} and table["documents"].iloc[0] == 40


def test_distributions_bring_their_own_scores():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 4)) * 1.5
    truth, told = (np.exp(s * z) / np.exp(s * z).sum(1, keepdims=True) for s in (1.0, 1.6))
    label = (rng.random((1200, 1)) > truth.cumsum(1)).sum(1).clip(max=3)
    document = np.arange(1200) // 10
    table = calibration_scores(
        Predictions.from_probabilities(told, label, document=document), draws=DRAWS
    ).set_index("score")
    nll = -np.log(told[np.arange(1200), label])
    assert table.loc["nll_classes", "value"] == pytest.approx(nll.mean())
    best = -np.log(truth[np.arange(1200), label]).mean()  # the temperature 1.6 undoes it
    assert table.loc["nll_classes_refinement", "value"] == pytest.approx(best, abs=5e-3)
    assert table.loc["nll_classes_calibration", "low"] > 0
    row = table.loc["ece_classwise"]
    assert 0 < row["low"] < row["value"] and row["p_documents"] < 0.05
    told[0] = [1, 0, 0, 0]
    label[0] = 2
    broken = calibration_scores(
        Predictions.from_probabilities(told, label, document=document), draws=DRAWS
    ).set_index("score")
    assert "1 prediction(s) gave probability 0" in broken.loc["nll_classes", "reason"]
    assert broken.loc["brier_classes", "value"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "x"}, "by='x'.*group"),
        ({"bins": 0}, "bins"),
        ({"draws": 3}, "draws"),
        ({"level": 1.0}, "lev"),
    ],
    ids=["by", "bins", "draws", "level"],
)
def test_settings_that_make_no_sense_are_refused(p, options, words):
    with pytest.raises(InputError, match=words):
        calibration_scores(p, **options)


def test_the_reliability_table_adds_up(p):
    table = reliability(p, bins=6, draws=DRAWS)
    whole = table[table["stratum"] == "all"]
    assert whole["share"].sum() == pytest.approx(1) and whole["n"].sum() == 900
    gap = (whole["share"] * whole["gap"]).sum()
    assert gap == pytest.approx((p.confidence - p.correct).mean())
    known = table[table["gap_low"].notna()]
    assert (known["gap_low"] <= known["gap"]).all() and (known["gap"] <= known["gap_high"]).all()
    assert ((known["band_low"] < known["confidence"]) & (known["band_high"] <= 1)).all()
    few = reliability(predictions(60, documents=60), bins=15, draws=DRAWS)
    assert few["gap_low"].isna().all() and few["reason"].str.contains("under 10").all()


def test_the_band_holds_all_bins_of_a_calibrated_model_at_once():
    inside = 0
    for seed in range(100):
        table = reliability(predictions(1000, 1000, seed), by=None, bins=8, draws=1, seed=seed)
        accuracy = table["accuracy"].to_numpy(float)
        low, high = (table[k].to_numpy(float) for k in ("band_low", "band_high"))
        inside += bool(((low <= accuracy) & (accuracy <= high)).all())
    assert 87 <= inside <= 99  # 95 expected


def test_a_stratum_of_few_of_many_documents_is_not_always_drawn():
    plain = predictions(900, documents=300)
    group = np.where(plain.documents < 5, "small", "large")  # e^-5 of the draws hold none of it
    table = calibration_scores(with_groups(plain, group), draws=600).set_index(["stratum", "score"])
    gap = table.loc[("small", "gap")]
    assert gap["documents"] == 5 and gap["low"] < gap["value"] < gap["high"]
    assert np.isfinite(table.loc[("small", "kuiper"), "high"])
