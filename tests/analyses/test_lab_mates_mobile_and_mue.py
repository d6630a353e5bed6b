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
    tables = importlib.import_module(f"analyses.lab.{name}").main(
        ["--quick", "--out", str(tmp_path)]
    )
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert set(tables) == TABLES[name] == set(result["tables"])
    assert result["quick"] and result["sentence"].startswith("A try-out")
    for table in tables:
        assert (tmp_path / f"{table}.csv").stat().st_size > 0
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<svg" in page and "What this cannot say" in page and result["command"] in page
    assert ">nan<" not in page
    if name == "batch_mates":
        verdicts = result["independent"]
        assert verdicts.pop("a router pooled over the batch (SegMoE's rule)") is False
        assert set(verdicts.values()) == {True}
