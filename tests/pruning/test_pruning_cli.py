"""`moeaudit prune` and `moeaudit screen` on a small model folder."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from made import tiny_run
from made.command_line import call

import moeaudit as ma


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
    places = ["--out", tmp_path / "tables", "--export", tmp_path / "tables" / "small"]
    assert call(monkeypatch, "prune", *given, *wanted, *places) == 0
    said, told = capsys.readouterr()
    costs = pd.read_csv(tmp_path / "tables" / "costs.csv")
    row = costs[costs["criterion"] == "reap"].iloc[0]
    draws = costs[costs["criterion"] == "random"]
    assert f"{row['ppl']:.3f}" in said and "beaten" in said and "nats a" in said
    record = json.loads((tmp_path / "tables" / "pruning.json").read_text())
    whole = [line for line in said.splitlines() if line.strip().startswith("whole model")]
    assert f"{math.exp(record['whole_model_nll']):.3f}" in whole[0]
    random = [line for line in said.splitlines() if line.strip().startswith("random ")]
    assert f"{math.exp(draws['nll'].mean()):.3f}" in random[0] and "[" in random[0]
    assert (costs["criterion"] == "random").sum() == 3
    assert record["asked"]["criteria"] == "reap" and record["asked"]["documents"] == 4
    page = (tmp_path / "tables" / "pruning.html").read_text()
    assert page.count("<script") == 1 and " src=" not in page  # the tables' own, inside
    assert "too little text" in page.lower()
    gone = pd.read_parquet(tmp_path / "tables" / "gone.parquet")
    assert len(gone) == costs["dropped"].sum()
    for stage in ("loading", "routing", "pruned models", "export"):
        assert f"{stage}: " in told
    assert said.count("only the first 10 tokens") == 2  # once a side
    small = ma.load(tmp_path / "tables" / "small")
    assert {x.num_experts for x in small.anatomy.layers} == {4}
    assert "`reap`" in (tmp_path / "tables" / "small" / "README.md").read_text()


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is to be had: whatever is wrong must be said before."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    # The package binds the command itself to this name.
    monkeypatch.setattr(sys.modules["moeaudit.cli.running.prune"], "load_model", load)


WRONG: list[tuple[list[str], str]] = [
    (["--export", "new"], "needs one criterion and one share"),
    (["--criteria", "reap", "--export", "new"], "needs one criterion and one share"),
    (
        ["--criteria", "reap", "--keep", "0.5", "--scope", "global", "--export", "new"],
        "--scope layer",
    ),
    (
        ["--criteria", "reap", "--keep", "0.5", "--layers", "early", "--export", "new"],
        "--layers all",
    ),
    (
        ["--criteria", "reap", "--keep", "0.5", "--export", "full"],
        "--export full is not empty (it has mine)",
    ),
    (["--criteria", "reap", "--keep", "0.5", "--export", "full/mine"], "is a file"),
    (
        ["--criteria", "reap", "--keep", "0.5", "--export", "full/mine/new"],
        "is a file and no folder",
    ),
    (
        ["--criteria", "reap", "--keep", "0.5", "--export", "new", "--out", "new"],
        "Give two folders",
    ),
    (
        ["--criteria", "reap", "--keep", "0.5", "--export", "new", "--out", "new/tables"],
        "Give two folders",
    ),
    (
        ["--out", "full"],
        "--out full is not empty (it has mine). Nothing was written. Choose an empty or a new folder.",
    ),
    (["--out", "full/mine"], "is a file"),
    (["--out", "/proc/new"], "cannot be written"),
    (["--text", "nowhere"], "no such file or folder"),
    (["--text", "empty"], "empty"),
    (
        ["--text", "few.jsonl"],
        "--text few.jsonl holds 2 distinct documents; pruning needs 8 or more",
    ),
    (["--criteria", "REAP"], "Unknown criterion 'REAP'. Did you mean reap?"),
    (["--draws", "1000000000"], "at most 10,000 are drawn"),
    (
        ["--criteria", "reap", "--keep", "0.5", "--export", "new", "--offload", "stream"],
        "--offload stream",
    ),
    (["--keep", "half"], "--keep cannot be read at 'half'"),
    (["--keep", "0.5,,0.25"], "--keep '0.5,,0.25' has nothing where a word was expected"),
    (["--keep", "1.5"], "--keep [1.5]"),
    (["--keep", "0"], "above 0"),
    (["--keep", "nan"], "--keep [nan]"),
    (["--criteria", "reep"], "Did you mean reap?"),
    (["--criteria", ""], "--criteria '' has nothing"),
    (
        ["--scope", "layers"],
        "Unknown --scope 'layers'. Choose one of layer, global. Did you mean layer?",
    ),
    (["--layers", "last"], "Unknown --layers 'last'"),
    (["--draws", "1"], "--draws 1 random choices have no spread"),
    (["--draws", "-1"], "--draws -1"),
    (["--criteria", "random", "--draws", "0"], "--draws 0"),
    (["--documents", "3"], "--documents is 3; 4 or more"),
    (["--tokens", "1"], "--tokens is 1"),
    (["--seed", "-1"], "seed"),
]


@pytest.mark.parametrize(
    ("line", "said"), WRONG, ids=lambda x: "_".join(x) if isinstance(x, list) else ""
)
def test_what_was_typed_is_checked_before_a_model_is_loaded(
    line: list[str],
    said: str,
    unread: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "few.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "one"}\n')
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, "prune", "tiny-olmoe", *line) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and not out
    assert (
        "corpus." not in err and " =" not in err and "load(" not in err
    )  # advice for the command line
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_model_cannot_do_is_refused_before_any_text_is_read(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a text was read")

    monkeypatch.setattr("moeaudit.text.choice.gather", read)
    assert call(monkeypatch, "prune", *given, "--keep", "0.1") == 2
    assert "leaves 1 of 8 experts in layer 0" in capsys.readouterr().err
    monkeypatch.setattr("moeaudit.pruning.export.sliced._COUNTS", ())
    one = ["--criteria", "reap", "--keep", "0.5", "--export", tmp_path / "new"]
    assert call(monkeypatch, "prune", *given, *one) == 2
    assert "states the number of experts under none" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moeaudit.pruning.export.checkpoint._verify", stop)
    one = ["--criteria", "reap", "--keep", "0.5", "--draws", 2, "--export", tmp_path / "new"]
    assert call(monkeypatch, "prune", *given, *one) == 130
    assert "interrupted. Nothing half-written was left" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_screen_prints_its_agreement_and_writes_the_estimates(
    given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "estimates.parquet"
    assert call(monkeypatch, "screen", *given, "--layers", "1", "--exact", 20, "--out", out) == 0
    said = capsys.readouterr().out
    assert "pearson" in said and "layer 1" in said and "layer 0" not in said
    estimates = pd.read_parquet(out)
    assert set(estimates["layer"]) == {1} and len(estimates) == 2 * 4 * 9
