"""Reading many texts over a large vocabulary takes no more memory than reading a few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import tiny_moe

import moeaudit as ma
from moeaudit.models.precision import heap


@pytest.mark.skipif(
    heap._trim() is None or not Path("/proc/self/statm").exists(),
    reason="memory is handed back by glibc and read from Linux's /proc",
)
def test_memory_of_logits_is_handed_back():
    model = ma.load(tiny_moe.build("olmoe", vocab_size=49_152))
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 49_152, 24) for _ in range(40)]
    ma.capture(model, texts[:3], progress=False)
    before = held()
    ma.capture(model, texts, progress=False)
    assert held() - before < 150e6  # 1 GB without it


def held() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * 4096
