"""Labels are text, no name is reserved, and class labels are understood or refused with row and value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moeaudit.calibration import (
    Predictions,
    Split,
    bbse,
    calibration_scores,
    conformal_sets,
    em_label_shift,
    fit_temperature,
    fit_vector,
    recalibrate,
    reliability,
)
from moeaudit.errors import InputError
from moeaudit.report.pages.calibration import headline, render_calibration

# Words that tables, figures or pandas use inside.
WORDS = (
    "all",
    "mean",
    "none",
    "None",
    "NA",
    "nan",
    "null",
    "index",
    "stratum",
    "whole",
    "score",
    "gap",
)


def two_groups(name: str) -> Predictions:
    """200 predictions over-confident by about 30 points in `name`, 200 that are right to claim .75."""
    rng = np.random.default_rng(1)
    confidence = np.full(400, 0.75)
    correct = rng.random(400) < np.where(np.arange(400) < 200, 0.45, 0.75)
    return Predictions.of(confidence, correct, group=[name] * 200 + ["law"] * 200)


@pytest.mark.parametrize("name", WORDS)
def test_a_group_may_have_any_name(name):
    p, plain = two_groups(name), two_groups("every")
    scores, want = (calibration_scores(x, draws=40) for x in (p, plain))
    values = ["value", "low", "high", "p_documents"]
    for whole in (True, False):
        got, right = (t[t["whole"] == whole] for t in (scores, want))
        if whole:
            pd.testing.assert_frame_equal(got[values], right[values])
        assert len(got) == len(right)
    gap = scores[(scores["score"] == "gap") & ~scores["whole"]].set_index("stratum")["value"]
    assert gap[name] == pytest.approx(0.75 - p.correct[:200].mean())
    assert headline(scores) == headline(want)
    bins = reliability(p, draws=40)
    assert bins.loc[bins["whole"], "n"].sum() == 400
    assert bins.loc[~bins["whole"] & (bins["stratum"] == name), "n"].sum() == 200
    record = {"title": "x", "level": 0.95, "draws": 40, "remarks": [], "provenance": {}}
    page = render_calibration(scores, bins, {}, record)
    assert f"Stratum {name}" in page and "all predictions" in page


def test_a_domain_called_all_has_its_own_coverage():
    p = np.tile([[0.9, 0.1], [0.6, 0.4]], (50, 1))
    sets = conformal_sets(p, fit_probabilities=p, fit_label=np.zeros(100, int), alpha=0.1)
    table = sets.coverage(np.zeros(100, int), domain=np.array(["all", "other"] * 50), draws=20)
    assert table["whole"].tolist() == [False, False, True]
    assert table["n"].tolist() == [50, 50, 100]


def test_recalibration_keeps_a_group_called_all_apart():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 3)) * 3
    label = rng.integers(0, 3, 600)
    group = np.array(["all", "b"])[np.arange(600) % 2]
    sides = [
        Split.of_logits(logits, label, group=group, document=[f"{side}{i}" for i in range(600)],
                        groups={"g": group})
        for side in "ab"
    ]  # fmt: skip
    found = recalibrate(*sides, methods=["temperature"], by=["g"], min_size=10)
    fits = found.table if hasattr(found, "table") else found.fits
    own = fits[fits["by"] == "g"]
    assert own["group"].tolist() == ["all", "all", "b"]
    assert own["whole"].tolist() == [True, False, False]
    scores = found.scores(["gap"], draws=40)
    assert len(scores) == 3 * len(found.predictions)


def test_what_differs_in_any_character_stays_apart():
    apart = ["4.1", "4.10", "001", "1", "True", "true", "1e3", "1000", "NA", "None", "A", "a"]
    n = len(apart)
    p = Predictions.of([0.5] * n, [1] * n, group=apart, document=apart)
    assert len(p.groups()) == n and p.n_documents == n
    # numpy makes one number of these, and text of those
    assert Predictions.of([0.5] * 3, [1] * 3, document=[1, True, 1.0]).n_documents == 3
    assert Predictions.of([0.5] * 2, [1] * 2, group=[True, "true"]).groups() == ["True", "true"]


def test_numbers_are_in_order_of_size_and_categories_in_theirs():
    p = Predictions.of([0.5] * 3, [1] * 3, group=np.array([10, 9, 1]))
    assert p.groups() == ["1", "9", "10"]
    # integers that met a missing value once
    assert Predictions.of([0.5] * 2, [1] * 2, group=pd.Series([2.0, 10.0])).groups() == ["2", "10"]
    category = pd.Series(pd.Categorical([2.0, 1.0], [2.0, 3.0, 1.0]))
    assert Predictions.of([0.5] * 2, [1] * 2, group=category).groups() == ["2", "3", "1"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["law", "law "], "row 1 is 'law '.*spaces only"),
        (pd.Series([["a"], ["b"]]), r"row 0 is \['a'\]"),
        (pd.Series(["a", pd.NA]), "no group, the first in row 1"),
        (np.array([1.0, np.nan]), "no group, the first in row 1"),
        (np.array([["a", "b"], ["a", "b"]]), r"shape \(2, 2\)"),
    ],
    ids=["spaces", "lists", "missing", "missing number", "two columns"],
)
def test_labels_that_are_none_are_refused(labels, words):
    with pytest.raises(InputError, match=words):
        Predictions.of([0.5, 0.6], [1, 0], group=labels)


P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])


@pytest.mark.parametrize(
    "label",
    [
        [0, 2, 0],
        ["0", "2", "0"],
        np.array(["0", "2", "0"]),
        [0.0, 2.0, 0.0],
        np.array([[0], [2], [0]]),
        pd.Series([0, 2, 0], dtype="Int64"),
        ["0.0", " 2", "00"],
    ],
    ids=["int", "text", "numpy text", "float", "(n, 1)", "nullable", "odd text"],
)
def test_class_labels_are_understood(label):
    p = Predictions.from_probabilities(P, label)
    assert p.label.tolist() == [0, 2, 0] and p.correct.tolist() == [True, True, False]


def test_letters_are_looked_up_among_the_names_of_columns():
    frame = pd.DataFrame(P, columns=list("ABC"))
    assert Predictions.from_probabilities(frame, ["A", "C", "A"]).label.tolist() == [0, 2, 0]
    assert Predictions.from_probabilities(frame, [0, 2, 0]).label.tolist() == [0, 2, 0]
    with pytest.raises(InputError, match="row 1 is 'D'; the columns are 'A', 'B', 'C'"):
        Predictions.from_probabilities(frame, ["A", "D", "A"])
    with pytest.raises(InputError, match="called 1, 2, 3: labels could be"):
        Predictions.from_probabilities(pd.DataFrame(P, columns=[1, 2, 3]), [1, 2, 1])


BAD_LABELS = {
    "fractions": ([0, 1.5, 2], r"row 1 \(1.5\)"),
    "letters": (["A", "B", "C"], r"row 0 \('A'\).*turn letters"),
    "outside": (
        [0, 3, 1],
        r"not among the 3 classes .class numbers 0 to 2., the first in row 1 \(3\)",
    ),
    "negative": ([0, 1, -1], r"row 2 \(-1\)"),
    "counted from 1": ([1, 3, 2], r"row 1 \(3\)\. They seem to be counted from 1.*subtract 1"),
    "missing": ([0, None, 1], r"row 1 \(None\)"),
    "one-hot": (np.eye(3), r"shape \(3, 3\)"),
}


@pytest.mark.parametrize("case", list(BAD_LABELS))
def test_class_labels_that_are_none_are_refused_with_row_and_value(case):
    label, words = BAD_LABELS[case]
    with pytest.raises(InputError, match=words):
        Predictions.from_probabilities(P, label)


FITS = {
    "temperature": lambda p, y: fit_temperature(np.log(p), y, min_size=1).overall,
    "vector": lambda p, y: fit_vector(np.log(p), y).log_probabilities(np.log(p)),
    "conformal": lambda p, y: conformal_sets(p, fit_probabilities=p, fit_label=y, alpha=0.2).sets,
    "bbse": lambda p, y: bbse(p, y, p).target,
    "em": lambda p, y: em_label_shift(y, p).target,
}


@pytest.mark.parametrize("name", list(FITS))
def test_every_fit_reads_labels_alike(name):
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(3), 300)
    y = np.where(rng.random(300) < 0.8, p.argmax(axis=1), rng.integers(0, 3, 300))
    want = FITS[name](p, y)
    for label in (y.astype(str), y.astype(float), y[:, None]):
        np.testing.assert_array_equal(FITS[name](p, label), want)
    for label, words in (
        (y + 0.5, r"row 0"),
        (np.array(list("ABC"))[y], "row 0"),
        (y + 1, "not among"),
    ):
        with pytest.raises(InputError, match=words):
            FITS[name](p, label)


def test_correctness_in_the_words_of_others():
    for truth in (
        ["T", "F"],
        ["Y", "n"],
        ["pass", "FAIL"],
        ["right", "wrong"],
        [[1], [0]],
        [1.0, 0.0],
    ):
        assert Predictions.of([0.5, 0.5], truth).correct.tolist() == [True, False]
    with pytest.raises(InputError, match=r"row 1 \(0.5\).*partial credit"):
        Predictions.of([0.5, 0.5], [1, 0.5])


def test_columns_of_one_and_of_more():
    p = Predictions.of(np.array([[0.5], [0.6]]), np.array([[1], [0]]), weight=np.array([[1], [2]]))
    assert p.confidence.shape == (2,) and p.weights.tolist() == [1, 2]
    with pytest.raises(InputError, match=r"confidence has the shape \(2, 2\)"):
        Predictions.of(np.full((2, 2), 0.5), [1, 0])


def test_many_groups_tell_how_far_they_are():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 57, 600)
    p = Predictions.of(rng.random(600), rng.random(600) < 0.5, group=group)
    told: list[tuple[int, int]] = []
    calibration_scores(p, draws=20, progress=lambda *at: told.append(at))
    assert told[0] == (1, 58) and told[-1] == (58, 58) and len(told) >= 58
    assert [done for done, _ in told] == sorted(done for done, _ in told)
