"""Specs: frozen, hashed, read back, and used to tell declared from undeclared rows."""

from __future__ import annotations

import dataclasses

import pytest
from made.census import QUICK, census

from moeaudit.errors import InputError
from moeaudit.stats import Spec, contrast, freeze, mark


@pytest.fixture
def spec():
    return freeze(["id", "odd"], [1, 2], context={"model": "abc"}, sesoi=0.2)


@pytest.fixture
def quick():
    """What `contrast(**QUICK)` of the made census does."""
    return freeze(["id", "odd"], [1, 2], documents=12, **QUICK)


def test_a_spec_survives_the_round_trip_and_hashes_all_it_says(spec):
    again = Spec.from_json(spec.to_json())
    assert again == spec and again.hash == spec.hash and len(spec.hash) == 64
    others = [
        freeze(["id", "odd"], [1, 2], context={"model": "abd"}, sesoi=0.2),
        freeze(["id", "odd"], [1, 2], context={"model": "abc"}, sesoi=0.3),
        freeze(["id", "odd"], [1], context={"model": "abc"}, sesoi=0.2),
    ]
    assert len({spec.hash, *(o.hash for o in others)}) == 4
    assert [[name for name, _, _ in spec.differences(o)] for o in others] == [
        ["context"],
        ["protocol"],
        ["layers"],
    ]


def test_a_spec_cannot_be_changed(spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 2


def test_declared_rows_are_confirmatory_and_others_exploratory(quick):
    spec = quick
    effects, metrics = census()
    declared = mark(contrast(effects, metrics, **QUICK), spec)
    assert set(declared.status) == {"confirmatory"}
    other = mark(contrast(effects, metrics, outcome="kl", **QUICK), spec)
    assert set(other.status) == {"exploratory"}
    # Fewer layers are another family, whose corrections the spec did not declare.
    fewer = mark(contrast(effects, metrics, layers=[1], **QUICK), spec)
    assert set(fewer[fewer.role == "metric"].status) == {"exploratory"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"metrics": 3}'])
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(InputError, match="not an audit spec"):
        Spec.from_json(text)


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": [], "layers": [1]},
        {"metrics": ["a", "a"], "layers": [1]},
        {"metrics": ["a"], "layers": [1], "outcomes": ("loss",)},
        {"metrics": ["a"], "layers": [1], "controls": ()},
        {"metrics": ["a"], "layers": [1], "sesoi": 0},
    ],
)
def test_empty_or_double_declarations_are_refused(options):
    with pytest.raises(InputError):
        freeze(**options)
