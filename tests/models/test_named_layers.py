"""Layers are named by numbers: in a list, a tuple, a range or an array; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError


@pytest.fixture(scope="module")
def anatomy():
    return ma.load(tiny_moe.build("olmoe")).anatomy


@pytest.mark.parametrize(
    "layers", [[1], (1,), range(1, 2), np.array([1]), [np.int64(1)], [1, 1], {1}]
)
def test_numbers_in_any_row(anatomy, layers):
    assert [layer.index for layer in anatomy.select(layers)] == [1]


@pytest.mark.parametrize(
    "layers", ["1", "all", 1, [True], [1.0], np.array([1.0]), ["1"], [None], [[1]]]
)
def test_anything_else_is_refused(anatomy, layers):
    with pytest.raises(InputError, match=r"layers = .*such as \[0, 3\]"):
        anatomy.select(layers)
