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


def test_a_spec_writes_its_default_bound_down():
    assert freeze(["id"], [1]).protocol.sesoi == "0.01nats"
    assert freeze(["id"], [1]).hash == freeze(["id"], [1], sesoi="0.01nats").hash
    assert freeze(["id"], [1], outcomes=("flip",)).protocol.sesoi == 0.1
    assert freeze(["id"], [1], questions=("pooled over layers",)).protocol.sesoi == 0.1
    both = ("within-token contrast", "per-expert expected harm")  # ranks have a bound of their own
    assert freeze(["id"], [1], questions=both).protocol.sesoi == "0.01nats"


@pytest.mark.parametrize(
    "asked",
    [
        {"outcomes": ("delta_nll", "flip")},
        {"questions": ("within-token contrast", "pooled over layers")},
    ],
)
def test_a_spec_with_two_default_bounds_must_declare_one(asked):
    with pytest.raises(InputError, match="different default smallest effects"):
        freeze(["id"], [1], **asked)
    assert freeze(["id"], [1], sesoi=0.1, **asked).protocol.sesoi == 0.1


def test_a_spec_frozen_with_a_bound_in_d_z_keeps_its_hash():
    """A plan of an older version says 0.1, and means it."""
    old = freeze(["id", "odd"], [1, 2], sesoi=0.1)
    again = Spec.from_json(old.to_json())
    assert again.protocol.sesoi == 0.1 and again.hash == old.hash
    effects, metrics = census()
    later = mark(
        contrast(effects, metrics, **QUICK),
        freeze(["id", "odd"], [1, 2], documents=12, sesoi=0.1, **QUICK),
    )
    assert later.differs.str.contains("sesoi: 0.1 was declared, 0.01nats was used").all()
