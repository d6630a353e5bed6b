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
    # Width 32, 4 heads of 8, 8 experts of inner width 24, top-3, 3 layers, 97 ids; 10 tokens.
    per_key = 2 * 4 * (8 + 8)
    layer = 2 * (4 * 32 * 32 + 32 * 8 + 3 * (3 * 32 * 24)) + per_key * 5.5
    head = 2 * 32 * 97
    clean = 10 * (3 * layer + head)
    rows = 9 * 3 * ((2 * layer + head) + (layer + head) + head)
    ideal = speed.ideal_clean_forwards(tiny_moe.load("olmoe"), 10)
    assert ideal == pytest.approx((clean + rows) / clean)


def test_ideal_of_deepseek_counts_the_dense_layer_once(speed):
    # Layer 0 is dense: its 32 x 48 MLP is part of every clean forward, and no row is born there.
    per_key = 2 * 4 * (8 + 8 + 8)
    attention = 32 * 4 * 16 + 32 * (16 + 8) + 16 * 4 * 16 + 4 * 8 * 32
    dense = 2 * (attention + 3 * 32 * 48) + per_key * 5.5
    sparse = 2 * (attention + 32 * 8 + (3 + 1) * 3 * 32 * 24) + per_key * 5.5
    head = 2 * 32 * 97
    clean = 10 * (dense + 2 * sparse + head)
    rows = 9 * 3 * ((sparse + head) + head)
    ideal = speed.ideal_clean_forwards(tiny_moe.load("deepseek_v2"), 10)
    assert ideal == pytest.approx((clean + rows) / clean)


def test_the_walk_of_olmoe_by_hand():
    from benchmarks.flops import Flops

    # As above; at each of 9 positions one row through three layers and the head, and 3 layers x 3 experts.
    per_key = 2 * 4 * (8 + 8)
    layer = 2 * (4 * 32 * 32 + 32 * 8 + 3 * (3 * 32 * 24)) + per_key * 5.5
    beside = 3 * layer + 2 * 32 * 97 + 3 * 2 * 3 * (3 * 32 * 24)
    found = Flops.of(tiny_moe.load("olmoe"), 10)
    assert found.walk - found.census == pytest.approx(9 * beside)
    assert found.forward == pytest.approx(10 * (3 * layer + 2 * 32 * 97))
