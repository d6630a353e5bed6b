"""The FLOP count that the benchmark measures the census against."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from made import tiny_moe

ROOT = Path(__file__).parents[3]


@pytest.fixture
def speed(monkeypatch):
    path = ROOT / "benchmarks" / "speed.py"
    spec = importlib.util.spec_from_file_location("speed", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speed", module)  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def test_ideal_of_olmoe_by_hand(speed):
    # Width 32, 4 heads of 8, 8 experts of inner width 24, top-3, 3 layers, 97 ids; 10 tokens attend to 5.5
    # keys in the mean, the 9 that have a target to 5.
    per_key = 2 * 4 * (8 + 8)
    matrices = 2 * (4 * 32 * 32 + 32 * 8 + 3 * (3 * 32 * 24))
    layer, row = matrices + per_key * 5.5, matrices + per_key * 5
    head = 2 * 32 * 97
    clean = 10 * (3 * layer + head)
    rows = 9 * 3 * ((2 * row + head) + (row + head) + head)
    ideal = speed.ideal_clean_forwards(tiny_moe.load("olmoe"), 10)
    assert ideal == pytest.approx((clean + rows) / clean)


def test_ideal_of_deepseek_counts_the_dense_layer_once(speed):
    # Layer 0 is dense: its 32 x 48 MLP is part of every clean forward, and no row is born there.
    per_key = 2 * 4 * (8 + 8 + 8)
    attention = 32 * 4 * 16 + 32 * (16 + 8) + 16 * 4 * 16 + 4 * 8 * 32
    dense = 2 * (attention + 3 * 32 * 48) + per_key * 5.5
    matrices = 2 * (attention + 32 * 8 + (3 + 1) * 3 * 32 * 24)
    sparse, row = matrices + per_key * 5.5, matrices + per_key * 5
    head = 2 * 32 * 97
    clean = 10 * (dense + 2 * sparse + head)
    rows = 9 * 3 * ((row + head) + head)
    ideal = speed.ideal_clean_forwards(tiny_moe.load("deepseek_v2"), 10)
    assert ideal == pytest.approx((clean + rows) / clean)


def test_the_walk_of_olmoe_by_hand():
    from benchmarks.flops import Flops

    # As above; at each of 9 positions one row through three layers and the head, and 3 layers x 3 experts.
    per_key = 2 * 4 * (8 + 8)
    matrices = 2 * (4 * 32 * 32 + 32 * 8 + 3 * (3 * 32 * 24))
    births = 3 * 2 * 3 * (3 * 32 * 24)
    beside = 3 * (matrices + per_key * 5) + 2 * 32 * 97 + births
    found = Flops.of(tiny_moe.load("olmoe"), 10)
    assert found.walk - found.census == pytest.approx(9 * beside)
    assert found.forward == pytest.approx(10 * (3 * (matrices + per_key * 5.5) + 2 * 32 * 97))


def test_a_share_walks_no_row_without_an_edit_where_nothing_is_drawn():
    from benchmarks.flops import Flops

    per_key = 2 * 4 * (8 + 8)
    row = 2 * (4 * 32 * 32 + 32 * 8 + 3 * (3 * 32 * 24)) + per_key * 5
    births = 3 * 2 * 3 * (3 * 32 * 24)
    found = Flops.of(tiny_moe.load("olmoe"), 10, share=0.5)
    beside = (0.5 + 0.75 + 0.875) * row + 0.875 * 2 * 32 * 97 + 0.5 * births
    assert found.walk - found.census == pytest.approx(9 * beside)
