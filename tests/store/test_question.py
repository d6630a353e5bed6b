"""A question equals itself after a file has held it."""

from __future__ import annotations

import json

import pytest

from moeaudit.errors import RunError
from moeaudit.store.question import Question


def test_a_question_read_back_equals_the_one_asked():
    asked = Question("pairs", {"operator": "Coalitions", "sizes": (1, 2)}, "document", True, "all")
    read = Question.from_dict(json.loads(json.dumps(asked.to_dict())))
    assert read == asked and hash(read) == hash(asked)
    assert read.operator["sizes"] == [1, 2] == asked.operator["sizes"]
    other = Question("pairs", {"operator": "Coalitions", "sizes": (1, 3)}, "document", True, "all")
    assert read != other


def test_fields_of_another_version_are_named():
    values = Question("zero", {}).to_dict()
    with pytest.raises(RunError, match=r"other fields.*\(mood\)"):
        Question.from_dict({**values, "mood": 1.0})


def test_what_cannot_be_written_down_is_refused_when_asked():
    with pytest.raises(TypeError, match="object cannot be written down"):
        Question("odd", {"fn": object()})


def test_in_words():
    asked = Question("zero", {}, frozen_routing=True, horizon=4)
    assert str(asked) == "zero, routing frozen, 4 tokens ahead"


def test_a_census_does_not_say_its_share_and_a_sample_does():
    census, sample = Question("zero", {}), Question("zero", {}, share=0.05, seed=3)
    assert not {"share", "seed"} & set(census.to_dict()) and census.whole()["share"] == 1.0
    assert Question.from_dict(census.to_dict()) == census
    assert Question.from_dict(sample.to_dict()) == sample != census
    assert str(sample) == "zero, a sample of 0.05 by seed 3"
