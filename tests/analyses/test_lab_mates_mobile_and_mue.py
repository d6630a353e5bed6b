"""The lab's analyses of batch mates, MobileMoE and Complete-muE run, small, and write what they say they write."""

from __future__ import annotations

import importlib
import json

import pytest

TABLES = {
    "batch_mates": {"comparisons"},
    "mobile_moe": {"working", "selections", "cost", "accounts", "law"},
    "complete_mue": {"slopes", "sizes", "rates", "best", "shifts", "models"},
}


@pytest.mark.parametrize("name", TABLES)
def test_it_runs(name, tmp_path):
    package = ".__main__" if name == "mobile_moe" else ""
    analysis = importlib.import_module(f"analyses.lab.{name}{package}")
    assert analysis.main(["--quick", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert TABLES[name] == set(result["tables"])
    answer = result.get("sentences", [result.get("sentence")])[0]
    assert result["quick"] and answer.startswith("A try-out")
    for table in TABLES[name]:
        assert (tmp_path / f"{table}.csv").stat().st_size > 0
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<svg" in page and "What this cannot say" in page and result["command"] in page
    assert ">nan<" not in page
    if name == "batch_mates":
        verdicts = result["independent"]
        assert verdicts.pop("a router pooled over the batch (SegMoE's rule)") is False
        assert set(verdicts.values()) == {True}


def test_a_refusal_is_one_line_and_status_two(tmp_path, capsys):
    from analyses.lab import batch_mates

    assert batch_mates.main(["--samples", "1", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("batch_mates: samples = 1") and not list((tmp_path / "out").iterdir())
