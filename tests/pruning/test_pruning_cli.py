"""`moeaudit prune` and `moeaudit screen` on a small model folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from made import tiny_run

import moeaudit as ma
from moeaudit import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["moeaudit", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("pruning")
    for number, text in enumerate(tiny_run.TEXTS):
        (folder / "text").mkdir(exist_ok=True)
        (folder / "text" / f"{number}.txt").write_text(text, encoding="utf-8")
    small = ["--text", folder / "text", "--documents", 4, "--tokens", 10]
    return [tiny_run.save(folder / "tiny"), *small]


def test_prune_prints_writes_and_exports(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    wanted = ["--criteria", "reap", "--keep", 0.5, "--draws", 3]
    places = ["--out", tmp_path / "tables", "--export", tmp_path / "small"]
    assert call(monkeypatch, "prune", *given, *wanted, *places) == 0
    said = capsys.readouterr().out
    costs = pd.read_csv(tmp_path / "tables" / "costs.csv")
    row = costs[costs["criterion"] == "reap"].iloc[0]
    assert f"{row['ppl']:.3f}" in said and "beats" in said
    assert (costs["criterion"] == "random").sum() == 3
    assert (tmp_path / "tables" / "curve.html").stat().st_size > 1000
    assert {x.num_experts for x in ma.load(tmp_path / "small").anatomy.layers} == {4}


def test_an_export_needs_one_criterion_and_one_share(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert call(monkeypatch, "prune", *given, "--export", tmp_path / "small") == 2
    assert "needs one criterion and one share" in capsys.readouterr().err
    assert call(monkeypatch, "prune", *given, "--keep", "half") == 2
    assert "'half'" in capsys.readouterr().err


def test_screen_prints_its_agreement_and_writes_the_estimates(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "estimates.parquet"
    assert call(monkeypatch, "screen", *given, "--layers", "1", "--exact", 20, "--out", out) == 0
    said = capsys.readouterr().out
    assert "pearson" in said and "layer 1" in said and "layer 0" not in said
    estimates = pd.read_parquet(out)
    assert set(estimates["layer"]) == {1} and len(estimates) == 2 * 4 * 9
