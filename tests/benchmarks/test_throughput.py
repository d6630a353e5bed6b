"""The efficiency of the census is a ratio of two measured rates; its parts are its whole."""

from __future__ import annotations

import json
import math
import time

import moeaudit as ma
from benchmarks import parts, throughput
from moeaudit.causal.attention import reroute
from moeaudit.causal.walk.wavefront import Wavefront


def test_a_line_for_each_model_and_length(capsys):
    found = throughput.main(["--models", "tiny-qwen2-moe", "--tokens", "12", "--rounds", "2"])
    (result,) = found
    assert result.removals == 11 * 6 * 4  # positions that predict, layers, active experts
    assert len(result.rounds) == 2 and all(math.isfinite(r) and r > 0 for r in result.rounds)
    assert min(result.rounds) <= result.efficiency <= max(result.rounds)
    assert 0.7 < result.most < 1
    assert result.line in capsys.readouterr().out


PATCHED = (
    *((Wavefront, name) for name in ("run", "_through", "_give_birth", "outcomes")),
    (reroute, "attend_rows"),
)


def test_a_part_is_the_time_that_its_calls_take_and_nothing_stays_timed(monkeypatch):
    """A tenth of a second is slept in one of them at a time: it is counted there, and in the whole."""
    model = ma.load("tiny-olmoe", dtype="float32")
    texts = list(throughput.documents(model, 12)[:1])
    first = model.anatomy.layers[-1]
    before = [vars(owner)[name] for owner, name in PATCHED]
    plain = parts.parts(model, texts, rounds=2)
    assert [vars(owner)[name] for owner, name in PATCHED] == before
    assert all("forward" not in vars(moe.experts) for moe in model.anatomy.layers)
    apart = {"births", "clean", "outcomes", "rest", "rows"}
    assert {*plain} == apart | {"rows_attention", "rows_experts", "whole"}
    assert all(plain[name] > 0 for name in plain)

    def slow(owner, name, times):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: time.sleep(0.1 / times) or real(*a, **k))

    for part, (owner, name, times) in {
        "births": (Wavefront, "_give_birth", 8),
        "outcomes": (Wavefront, "outcomes", 1),
        "rows_attention": (reroute, "attend_rows", 8),
        # The clean tokens' own call, and one for the births and one for the rows of the layer.
        "rows_experts": (first.experts, "forward", 1),
        "rest": (parts.ma, "ablate", 1),
    }.items():
        with monkeypatch.context() as patch:
            monkeypatch, outer = patch, monkeypatch
            slow(owner, name, times)
            found = parts.parts(model, texts, rounds=2)
            monkeypatch = outer
        more = {each: found[each] - plain[each] for each in plain}
        assert 90 < more[part] < 200, (part, more)
        if part in apart:
            assert all(abs(more[each]) < 60 for each in apart - {part}), (part, more)
        elif part == "rows_attention":
            assert more["rows"] > 90 and more["rows_experts"] < 60
        else:
            assert more["rows"] > 90 and more["births"] > 90 and more["clean"] > 90, more


def test_the_record_names_its_command_and_says_the_parts(tmp_path):
    out = tmp_path / "found.json"
    asked = ["--models", "tiny-olmoe", "--tokens", "12", "--rounds", "1", "--out", str(out)]
    throughput.main([*asked, "--parts"])
    record = json.loads(out.read_text())
    assert record["command"] == " ".join(["python benchmarks/throughput.py", *asked, "--parts"])
    assert record["results"]["tiny-olmoe"]["12"]["parts_ms"]["rows"] > 0
