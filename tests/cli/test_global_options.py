"""Options of every command, how it ends, and what it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from made.command_line import call

from moeaudit import cli
from moeaudit.cli.terminal.document import plain
from moeaudit.cli.terminal.spelling import typed

START = "import sys; sys.argv = ['moeaudit', *{words!r}]\nfrom moeaudit.cli import main\nmain()"


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_beside_the_paragraph(place, tmp_path, monkeypatch, capfd):
    words = ["report", tmp_path / "none"]
    line = ["--debug", *words] if place == "before" else [*words, "--debug"]
    assert call(monkeypatch, *line) == 2
    err = capfd.readouterr().err
    assert "Traceback" in err and "RunError" in err
    assert err.splitlines()[-1].startswith("moeaudit: ")
    assert call(monkeypatch, *words) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_quiet_keeps_errors_and_drops_progress(tmp_path, monkeypatch, capfd):
    from moeaudit.cli.terminal.console import console

    assert call(monkeypatch, "models", "--quiet") == 0
    console(stderr=True).print("progress")
    assert capfd.readouterr().err == ""
    assert call(monkeypatch, "report", tmp_path / "none", "-q") == 2
    assert capfd.readouterr().err.startswith("moeaudit: ")
    assert call(monkeypatch, "models") == 0  # the next command speaks again
    console(stderr=True).print("progress")
    assert "progress" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "inside"),
    [
        (["screen", "tiny-olmoe"], "moeaudit.cli.running.screen.load_model"),
        (["prune", "tiny-olmoe"], "moeaudit.cli.running.prune._prune"),
        (["inspect", "tiny-olmoe"], "moeaudit.cli.asking.inspect.load_model"),
        (["models"], "moeaudit.models.bundled.bundled_models"),
        (["doctor"], "moeaudit.cli.asking.machine.found"),
    ],
)
def test_an_interrupt_ends_every_command_in_words(line, inside, monkeypatch, capfd):
    import importlib

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    module, _, name = inside.rpartition(".")
    importlib.import_module(module)
    monkeypatch.setattr(sys.modules[module], name, stop)
    assert call(monkeypatch, *line) == 130
    err = capfd.readouterr().err
    assert "interrupted" in err and "the same command begins anew" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell):
    environment = {
        **os.environ,
        "_MOEAUDIT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "moeaudit ins",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "moeaudit ins",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-c", START.format(words=[])],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "inspect" in done.stdout and "audit" not in done.stdout


def test_models_needs_no_torch():
    code = START.format(words=["models", "--json"]).replace(
        "\nmain()", "\ntry:\n    main()\nexcept SystemExit:\n    pass"
    )
    code += "\nassert not {'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {each["name"] for each in json.loads(done.stdout)["models"]} >= {"tiny-olmoe"}


def test_what_was_typed_is_not_rewritten(monkeypatch, capfd, tmp_path):
    assert call(monkeypatch, "report", "/a/b out=x") == 2
    assert "/a/b out=x is not a run folder" in capfd.readouterr().err
    assert call(monkeypatch, "calibrate", "--group=seed=3", tmp_path / "none.csv") == 2
    said = "device='cpu' and /d/device=cpu.txt"
    assert typed(said, ["/d/device=cpu.txt"]) == "--device cpu and /d/device=cpu.txt"
    assert typed(said) == "--device cpu and /d/device=cpu.txt"


@pytest.mark.parametrize(
    ("text", "meant"), [("0,5", "0.5"), ("0,875,0,5", "0.875,0.5"), ("1,0", "1.0")]
)
def test_a_decimal_comma_is_named(text, meant, monkeypatch, capfd):
    assert call(monkeypatch, "prune", "tiny-olmoe", "--keep", text) == 2
    err = capfd.readouterr().err
    assert f"--keep {meant}." in err and "a point" in err


def test_prune_keeps_an_earlier_pruning_unless_forced(tmp_path, monkeypatch, capfd):
    from moeaudit.report.pruning.folder import require_place

    (tmp_path / "pruning.json").write_text("{}")
    assert call(monkeypatch, "prune", "tiny-olmoe", "--out", tmp_path) == 2
    assert "--force" in capfd.readouterr().err
    require_place(tmp_path, replace=True)


def test_calibrate_keeps_scores_of_another_table_unless_forced(tmp_path, monkeypatch, capfd):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("confidence,correct\n" + ".5,1\n.6,0\n" * 20)
    two.write_text("confidence,correct\n" + ".7,1\n.6,0\n" * 20)
    out = ["--draws", 20, "--out", tmp_path / "out"]
    assert call(monkeypatch, "calibrate", one, *out) == 0
    before = (tmp_path / "out" / "scores.csv").read_bytes()
    assert call(monkeypatch, "calibrate", two, *out) == 2
    err = capfd.readouterr().err
    assert "one.csv" in err and "sha256" in err and "--force" in err
    assert (tmp_path / "out" / "scores.csv").read_bytes() == before
    assert call(monkeypatch, "calibrate", two, *out, "--force") == 0
    assert (tmp_path / "out" / "scores.csv").read_bytes() != before


def test_numbers_that_there_are_not_are_null():
    import numpy as np
    import pandas as pd

    table = pd.DataFrame({"a": [1, 2], "b": [np.nan, np.inf], "c": [pd.NA, "x"]})
    assert plain(table) == [{"a": 1, "b": None, "c": None}, {"a": 2, "b": None, "c": "x"}]
    values = {1: np.float32("nan"), "n": np.int64(3), "t": (True, None), "when": pd.NaT}
    assert plain(values) == {"1": None, "n": 3, "t": [True, None], "when": None}


def test_the_page_of_the_command_line_names_all_of_it():
    from pathlib import Path

    from moeaudit.cli import ending

    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")]
    for status in (0, ending.NO, ending.WRONG, ending.FAULT, ending.INTERRUPTED, ending.TERMINATED):
        assert str(status) in rows
    for name in cli.COMMANDS:
        assert f"\nmoeaudit {name}" in page, f"no example of {name}"
    for option in (*cli.DEBUG, *cli.QUIET, *cli.VERBOSE, "--force", "--json"):
        assert f"`{option}`" in page
