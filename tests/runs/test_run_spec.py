"""The spec: one question, one hash, and differences by name."""

from __future__ import annotations

import dataclasses
import json

import pytest

from moeaudit.errors import RunError
from moeaudit.runs import AuditSpec

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
    assert SPEC.hash == "afc3159a585347824da25b7816b9e54195f5e8978557fa6379a1ac5aef4b8f6e"


def test_a_round_trip_through_json_changes_nothing():
    again = AuditSpec.from_dict(json.loads(SPEC.canonical()))
    assert again == SPEC
    assert again.hash == SPEC.hash


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(AuditSpec)])
def test_every_field_enters_the_hash_and_is_named_when_it_differs(field):
    value = getattr(SPEC, field)
    if isinstance(value, int):
        other = value + 1
    elif isinstance(value, tuple):
        other = (*value, value[-1])
    else:
        other = value + "x"
    changed = dataclasses.replace(SPEC, **{field: other})
    assert changed.hash != SPEC.hash
    assert [name for name, _, _ in SPEC.differences(changed)] == [field]


def test_fields_of_another_version_are_refused_by_name():
    with pytest.raises(RunError, match="unknown fields .'colour'."):
        AuditSpec.from_dict({**SPEC.to_dict(), "colour": "red"})
    short = SPEC.to_dict()
    del short["layers"]
    with pytest.raises(RunError, match="no field .'layers'."):
        AuditSpec.from_dict(short)
