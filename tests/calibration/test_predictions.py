"""What can be scored, and what is refused with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moeaudit.calibration import Predictions
from moeaudit.errors import InputError

GOOD = {"confidence": [0.1, 0.5, 1.0], "correct": [0, 1, 1]}
BAD = {
    "above one": ({"confidence": [0.1, 50.0, 1.0]}, r"row 1 \(50.0\).*divided by 100"),
    "negative": ({"confidence": [-0.1, 0.5, 1.0]}, "not in"),
    "missing confidence": ({"confidence": [0.1, np.nan, 1.0]}, "1 of 3 values"),
    "text for numbers": ({"confidence": ["high", 0.1, 0.2]}, "cannot be read as numbers"),
    "neither true nor false": ({"correct": [0, 2, 1]}, "neither true nor false"),
    "missing correctness": ({"correct": [True, None, False]}, "neither true nor false"),
    "lengths": ({"correct": [0, 1]}, "3 confidences and 2 values of correct"),
    "missing group": ({"group": ["a", None, "b"]}, "no group, the first in row 1"),
    "missing document": ({"document": [1.0, 2.0, np.nan]}, "no document"),
    "negative weight": ({"weight": [1, -1, 1]}, "weight.*negative"),
    "infinite weight": ({"weight": [1, np.inf, 1]}, "weight.*infinite"),
    "no weight": ({"weight": [0, 0, 0]}, "All weights are zero"),
    "nothing": ({"confidence": [], "correct": []}, "no predictions"),
    "labels without probabilities": ({"label": [0, 1, 1]}, "go together"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_scored_is_refused(case):
    change, words = BAD[case]
    with pytest.raises(InputError, match=words):
        Predictions.of(**(GOOD | change))


@pytest.mark.parametrize(
    ("probabilities", "label", "words"),
    [
        ([[1.0], [1.0]], [0, 0], "at least 2"),
        ([[0.5, 0.4], [0.5, 0.5]], [0, 1], "add up to 0.9"),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 2], "not among the 2 classes"),
        ([0.5, 0.5], [0, 1], "shape"),
    ],
    ids=["one class", "do not add up", "unknown label", "one column"],
)
def test_distributions_that_are_none_are_refused(probabilities, label, words):
    with pytest.raises(InputError, match=words):
        Predictions.from_probabilities(probabilities, label)


def test_words_and_numbers_of_truth_are_read_alike():
    for truth in ([True, False], [1, 0], [1.0, 0.0], ["True", "false"], ["yes", "no"]):
        assert Predictions.of([0.5, 0.5], truth).correct.tolist() == [True, False]


def test_a_table_may_name_its_columns_and_lacks_are_named():
    frame = pd.DataFrame({"p": [0.2, 0.3], "ok": [1, 0], "weight": [1, 2]})
    p = Predictions.from_frame(frame, confidence="p", correct="ok")
    assert p.group is None and p.weights.tolist() == [1, 2]
    with pytest.raises(InputError, match="lacks the column correct. It has p, ok"):
        Predictions.from_frame(frame, confidence="p")


def test_an_empty_category_stays_declared_through_take():
    frame = pd.DataFrame(GOOD | {"group": pd.Categorical(["x", "x", "y"], ["z", "y", "x"])})
    p = Predictions.from_frame(frame)
    assert p.groups() == ["z", "y", "x"]
    assert p.take(p.group == "x").groups() == ["z", "y", "x"]


def test_distributions_give_confidence_and_truth():
    p = Predictions.from_probabilities([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [0, 1])
    assert p.confidence.tolist() == [0.7, 0.6] and p.correct.tolist() == [True, False]
    part = p.take(np.array([1]))
    assert part.label.tolist() == [1] and part.probabilities.shape == (1, 3)


def test_too_little_is_said_and_not_raised():
    p = Predictions.of(np.full(100, 0.5), np.arange(100) % 2, document=np.zeros(100))
    assert "1 document" in p.lack() and p.lack(documents=1) is None
    weight = np.r_[np.full(5, 1.0), np.full(95, 1e-9)]
    few = Predictions.of(np.full(100, 0.5), np.arange(100) % 2, weight=weight)
    assert few.n_effective == pytest.approx(5, rel=1e-3)
    assert "effective sample size of 5.0" in few.lack()


def test_documents_are_numbered_by_appearance():
    p = Predictions.of([0.1, 0.2, 0.3], [0, 1, 1], document=["b", "a", "b"])
    assert p.documents.tolist() == [0, 1, 0] and p.n_documents == 2


def test_lists_are_read_as_of_reads_them():
    lists = {"confidence": [0.5, 0.25, 1], "correct": [1, "no", True]}
    more = {"group": ["x", "y", 3], "document": (7, 7, 8), "weight": [1, 2, 0.5]}
    p, want = Predictions(**lists, **more), Predictions.of(**lists, **more)
    for name in (*lists, *more):
        assert getattr(p, name).tolist() == getattr(want, name).tolist()
        assert getattr(p, name).dtype == getattr(want, name).dtype
    assert len(Predictions(pd.Series([0.5]), [True], probabilities=[[0.5, 0.5]], label=[0])) == 1
    for wrong, words in (
        (None, "confidence"),
        (["high"], "cannot be read as numbers"),
        (0.5, "shape"),
    ):
        with pytest.raises(InputError, match=words):
            Predictions(confidence=wrong, correct=[True])
