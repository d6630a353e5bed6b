"""The efficiency of the census is a ratio of two measured rates; its parts are its whole."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

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
    """By a clock that moves a second whenever it is looked at, and a hundred in one of the parts."""
    model = ma.load("tiny-olmoe", dtype="float32")
    texts = list(throughput.documents(model, 12)[:1])
    last, now = model.anatomy.layers[-1], [0.0]

    def look() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(parts, "time", SimpleNamespace(perf_counter=look))
    before = [vars(owner)[name] for owner, name in PATCHED]
    plain = parts.parts(model, texts, rounds=2)
    assert [vars(owner)[name] for owner, name in PATCHED] == before
    assert all("forward" not in vars(moe.experts) for moe in model.anatomy.layers)
    apart = {"births", "clean", "outcomes", "rest", "rows"}
    assert {*plain} == apart | {"rows_attention", "rows_experts", "whole"}

    def slow(patch, owner, name):
        real = getattr(owner, name)

        def slowly(*args, **kwargs):
            now[0] += 100.0
            return real(*args, **kwargs)

        patch.setattr(owner, name, slowly)

    layers = model.anatomy.n_layers
    for (owner, name), more in {
        (Wavefront, "_give_birth"): {"births": layers, "whole": layers},
        (Wavefront, "outcomes"): {"outcomes": 1, "whole": 1},
        (Wavefront, "_through"): {"rows": layers, "whole": layers},
        (reroute, "attend_rows"): {"rows_attention": layers, "rows": layers, "whole": layers},
        (parts.ma, "ablate"): {"rest": 1, "whole": 1},
        # Once for the clean tokens, once for rows on their way, once for those that are born.
        (last.experts, "forward"): {
            **{part: 1 for part in ("clean", "rows", "rows_experts", "births")},
            "whole": 3,
        },
    }.items():
        with monkeypatch.context() as patch:
            slow(patch, owner, name)
            found = parts.parts(model, texts, rounds=2)
        assert {each: found[each] - plain[each] for each in plain} == {
            each: 1e5 * more.get(each, 0) for each in plain
        }, name


def test_the_record_names_its_command_and_says_the_parts(tmp_path):
    out = tmp_path / "found.json"
    asked = ["--models", "tiny-olmoe", "--tokens", "12", "--rounds", "1", "--out", str(out)]
    throughput.main([*asked, "--parts"])
    record = json.loads(out.read_text())
    assert record["command"] == " ".join(["python benchmarks/throughput.py", *asked, "--parts"])
    assert record["results"]["tiny-olmoe"]["12"]["parts_ms"]["rows"] > 0
