"""Declarations: one line of JSON, one hash, and the fields that differ."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import pandas as pd
import pytest

from moeaudit.stats.nullable import nullable
from moeaudit.stats.record.declared import Declared


@dataclass(frozen=True)
class Asked(Declared):
    name: str = "Zürich"
    layers: tuple[int, ...] = (2, 1)
    settings: dict[str, float] = field(default_factory=lambda: {"b": 0.5, "a": 1.0})


def test_the_canonical_line_is_sorted_and_plain():
    line = '{"layers":[2,1],"name":"Zürich","settings":{"a":1.0,"b":0.5}}'
    assert Asked().canonical() == line
    assert Asked().hash == hashlib.sha256(line.encode()).hexdigest()
    assert Asked(settings={"a": 1.0, "b": 0.5}).hash == Asked().hash


def test_differences_name_the_field_and_both_values():
    other = replace(Asked(), layers=(1, 2), name="Bern")
    assert Asked().differences(other) == [
        ("name", "Zürich", "Bern"),
        ("layers", [2, 1], [1, 2]),
    ]
    assert Asked().differences(Asked()) == []


def test_what_json_cannot_say_is_not_declared():
    with pytest.raises(ValueError, match="JSON"):
        Asked(settings={"a": float("nan")}).canonical()


def test_nullable_columns_hold_no_nan():
    nan = float("nan")
    table = pd.DataFrame({"n": [1.0, nan], "p": [nan, 0.5], "why": [None, "few"], "x": ["a", "b"]})
    out = nullable(table, whole=("n",), text=("why",))
    assert [str(out[c].dtype) for c in ("n", "p")] == ["Int64", "Float64"]
    assert out["n"].tolist()[0] == 1 and out["n"].isna().tolist() == [False, True]
    assert out["p"].isna().tolist() == [True, False] and out["why"].tolist() == [None, "few"]


def test_only_the_numbers_named_are_changed():
    table = pd.DataFrame({"share": [0.5, 1.0], "low": [None, None]})
    out = nullable(table, numbers=("low",))
    assert str(out["share"].dtype) == "float64"
    assert str(out["low"].dtype) == "Float64" and out["low"].isna().all()
