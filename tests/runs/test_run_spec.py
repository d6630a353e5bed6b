"""The spec: one question, one hash, and differences by name."""

from __future__ import annotations

import dataclasses
import json

import pytest

from moeaudit.errors import RunError
from moeaudit.runs import AuditSpec
from moeaudit.store.question import Question

SPEC = AuditSpec(
    model="tiny",
    weights="w",
    text="documents",
    metric_text="m",
    effect_text="e",
    metric_documents=8,
    effect_documents=4,
    layers=(0, 1),
    max_length=64,
    tokens=32,
)


def test_hash_is_that_of_the_canonical_json_and_does_not_move():
    # sha256 of the line below; a change means that older run folders cannot be resumed
    assert SPEC.canonical().startswith('{"dtype":"float32","effect_documents":4,"effect_text":"e"')
    assert SPEC.hash == "116b319c299237e65302fbe6ab47753634cdc4502a9b30022d4b7126d3e0d2ed"


def test_a_round_trip_through_json_changes_nothing():
    again = AuditSpec.from_dict(json.loads(SPEC.canonical()))
    assert again == SPEC
    assert again.hash == SPEC.hash


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(AuditSpec)])
def test_every_field_enters_the_hash_and_is_named_when_it_differs(field):
    value = getattr(SPEC, field)
    if isinstance(value, int | float):
        other = value + 1
    elif isinstance(value, tuple):
        other = (*value, value[-1] if value else "easy_ep")
    elif isinstance(value, Question):
        other = dataclasses.replace(value, frozen_routing=True)
    else:
        other = value + "x"
    changed = dataclasses.replace(SPEC, **{field: other})
    assert changed.hash != SPEC.hash
    named = "question.frozen_routing" if field == "question" else field
    assert [name for name, _, _ in SPEC.differences(changed)] == [named]


def test_fields_of_another_version_are_refused_by_name():
    with pytest.raises(RunError, match="unknown fields .'colour'."):
        AuditSpec.from_dict({**SPEC.to_dict(), "colour": "red"})
    short = SPEC.to_dict()
    del short["layers"]
    with pytest.raises(RunError, match="no field .'layers'."):
        AuditSpec.from_dict(short)


def swap(expert: int) -> AuditSpec:
    question = Question(f"swap in expert {expert}", {"operator": "Swap", "expert": expert})
    return dataclasses.replace(SPEC, question=question)


def test_what_differs_inside_the_question_is_named_in_full():
    found = {name: (a, b) for name, a, b in swap(3).differences(swap(4))}
    assert found["question.operator.expert"] == (3, 4)
    assert set(found) == {"question.name", "question.operator.expert"}
    found = {name: (a, b) for name, a, b in SPEC.differences(swap(4))}
    assert found["question.operator.operator"] == ("Zero", "Swap")
    assert found["question.operator.expert"] == (None, 4)


def test_a_question_survives_the_trip_through_json():
    again = AuditSpec.from_dict(json.loads(swap(3).canonical()))
    assert again == swap(3) and again.question == swap(3).question
    assert again.hash != SPEC.hash


def test_the_bound_is_in_nats_unless_an_outcome_has_none():
    from moeaudit.runs.session import declared_of

    assert declared_of(None, 0.05, None, ("delta_nll", "kl"))[0] == "0.01nats"
    assert declared_of(None, 0.05, None, ("delta_nll", "flip"))[0] == "0.1"
    assert declared_of(0.2, 0.05, None, ("flip",))[0] == "0.2"
