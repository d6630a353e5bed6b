"""The efficiency of the census is a ratio of two measured rates."""

from __future__ import annotations

import math

from benchmarks import throughput


def test_a_line_for_each_model_and_length(capsys):
    found = throughput.main(["--models", "tiny-qwen2-moe", "--tokens", "12", "--rounds", "2"])
    (result,) = found
    assert result.removals == 11 * 6 * 4  # positions that predict, layers, active experts
    assert len(result.rounds) == 2 and all(math.isfinite(r) and r > 0 for r in result.rounds)
    assert min(result.rounds) <= result.efficiency <= max(result.rounds)
    assert 0.7 < result.most < 1
    assert result.line in capsys.readouterr().out
