"""`moeaudit lab`: train, pool and list, in this process and in miniature."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer
from made.command_line import call
from rich.console import Console

from moeaudit.cli import app
from moeaudit.cli.lab import LAB_COMMANDS
from moeaudit.cli.lab.curves import CurvesProgress, curve
from moeaudit.cli.lab.pool import seed_numbers
from moeaudit.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
TINY = """
[model]
hidden = 16
layers = 1
experts = 4
width = 8
heads = 2
context = 16
[text]
held_out = 2
[train]
steps = 3
length = 16
"""


def documented(found: dict) -> bool:
    said = PAGE.read_text("utf-8").partition("## JSON")[2].partition("\n## ")[0]
    return all(f"`{key}`" in said for key in found)


@pytest.mark.parametrize("name", LAB_COMMANDS)
def test_help_ends_with_examples_that_can_be_typed(name, monkeypatch, capfd):
    assert call(monkeypatch, "lab", name, "--help") == 0
    out = capfd.readouterr().out
    shown = out.partition("Examples:")[2].strip().splitlines()
    assert len(shown) >= 2 and all(f"moeaudit lab {name}" in line for line in shown)
    assert "--json" in out
    group = typer.main.get_command(app).commands["lab"]  # type: ignore[attr-defined]
    for line in LAB_COMMANDS[name].__dict__["examples"]:
        words = shlex.split(line.partition(" > ")[0])[3:]
        group.commands[name].make_context(name, words).close()


def test_a_recipe_is_trained_and_told(tmp_path, monkeypatch, capfd):
    (tmp_path / "tiny.toml").write_text(TINY)
    line = ["lab", "train", tmp_path / "tiny.toml", "--out", tmp_path / "out", "--seed", "2"]
    assert call(monkeypatch, *line) == 0
    out, err = capfd.readouterr()
    assert "tiny: " in out and "Audit it: moeaudit audit" in out
    assert "training: 768 tokens" in err
    assert (tmp_path / "out" / "curves.html").is_file()
    assert call(monkeypatch, *line, "--json") == 0  # finished: the same answer again
    found = json.loads(capfd.readouterr().out)
    assert found["command"] == "lab train" and documented(found)
    assert found["recipe"]["train"]["seed"] == 2 and found["card"]["steps"] == 3


def test_what_is_wrong_is_one_paragraph(tmp_path, monkeypatch, capfd):
    (tmp_path / "bad.toml").write_text("[model]\nexpert = 4\n")
    for words, said in (
        ((tmp_path / "bad.toml",), "Did you mean experts"),
        (("olmo",), "There is no recipe 'olmo'"),
        ((tmp_path / "none.toml",), "cannot be read as a recipe"),
    ):
        assert call(monkeypatch, "lab", "train", *words, "--out", tmp_path / "new") == 2
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and said in err
    assert call(monkeypatch, "lab", "pool", "--seeds", "2-0") == 2
    assert "cannot be read at '2-0'" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_pool_is_trained_and_listed(tmp_path, monkeypatch, capfd):
    line = ["lab", "pool", "--arms", "dense", "--seeds", "0", "--quick", "--folder", tmp_path]
    assert call(monkeypatch, *line, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert documented(found) and found["trained"] == 1
    assert [(r["arm"], r["seed"], r["entropy"]) for r in found["models"]] == [("dense", 0, None)]
    assert call(monkeypatch, *line) == 0
    assert "Trained now: 0" in capfd.readouterr().out
    assert call(monkeypatch, "lab", "list", "--folder", tmp_path, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert documented(found) and len(found["models"]) == 1
    assert {"olmoe", "olmoe-tied", "dense"} <= {arm["name"] for arm in found["arms"]}
    assert call(monkeypatch, "lab", "list", "--folder", tmp_path / "empty") == 0
    out = capfd.readouterr().out
    assert "balance over the whole step" in out and "0 finished models" in out


def test_seeds_are_numbers_and_ranges():
    assert seed_numbers("0-2,5") == [0, 1, 2, 5]
    for text in ("", "a", "3-1", "-1"):
        with pytest.raises(InputError, match="--seeds"):
            seed_numbers(text)


def test_curves_are_drawn_and_numbers_told():
    assert curve([3.0, 2.0, 1.0]) == "█▅▁"
    assert curve([1.0, 1.0]) == "▁▁" and len(curve(list(map(float, range(500))))) == 24
    progress = CurvesProgress(Console(stderr=True, quiet=True))
    progress.stage("training", 10, "tokens")
    progress.measured({"nll": 4.25, "global_balance": None, "entropy": 2.0})
    assert progress.line().endswith("; loss 4.250, router entropy 2.000")
