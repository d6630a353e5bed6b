"""Every command: examples in its help, JSON where it prints a table, one paragraph for a folder that is no run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer
from made import synthetic
from made.command_line import call

from moeaudit.cli import COMMANDS, app

# Commands that print a table or an answer, with a line that is answered from files alone; None needs a model.
JSON: dict[str, list[str] | None] = {
    "models": [],
    "plan": ["tiny-olmoe", "--machine", "laptop"],
    "calibrate": ["TMP/table.csv", "--draws", "20"],
    "report": ["TMP/run", "--out", "TMP/page.html"],
    "open": ["TMP/run", "--print"],
    "verify": ["TMP/run", "--rows", "0"],
    "compare": ["TMP/run", "TMP/run"],
    "doctor": None,
    "inspect": None,
    "audit": None,
    "merge": None,
    "prune": None,
    "screen": None,
    "check": None,
}
KEYS = {
    "models": {"models"},
    "plan": {"model", "layers", "fits", "streams", "quantities", "machine", "notes"},
    "calibrate": {"settings", "scores", "reliability", "remarks"},
    "report": {"folder", "question", "report"},
    "open": {"folder", "report", "written"},
    "verify": {"folder", "passed", "checks"},
    "compare": {"identical", "report"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    synthetic.write_run(folder / "run", documents=8, tokens=12, layers=3)
    (folder / "table.csv").write_text("confidence,correct\n" + ".5,1\n.6,0\n" * 20)
    (folder / "plain").mkdir()
    (folder / "plain" / "notes.txt").write_text("mine")
    return folder


def options_of(name: str) -> set[str]:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return {opt for param in command.params for opt in param.opts}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("ask", ["-h", "--help"])
def test_help_ends_with_examples(name, ask, monkeypatch, capfd):
    assert call(monkeypatch, name, ask) == 0
    out = capfd.readouterr().out
    shown = out.partition("Examples:")[2].strip().splitlines()
    assert len(shown) >= 2 or name == "models"
    assert all(line.strip().startswith(f"moeaudit {name}") for line in shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_a_line_that_the_command_takes(name):
    command = typer.main.get_command(app)
    for line in COMMANDS[name].__dict__["examples"]:
        words = shlex.split(line.partition(" > ")[0])[1:]
        with command.make_context("moeaudit", list(words)) as context:
            rest = [*context._protected_args, *context.args]  # noqa: SLF001
            _, sub, rest = command.resolve_command(context, rest)  # type: ignore[attr-defined]
            assert sub is not None
            sub.make_context(name, rest, parent=context).close()


def test_all_commands_are_in_the_table():
    assert set(JSON) | {"compare"} >= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_an_option_of_every_command(name):
    assert "--json" in options_of(name)


@pytest.mark.parametrize("name", [name for name, line in JSON.items() if line is not None])
def test_json_is_one_document_and_nothing_else(name, place, monkeypatch, capfd):
    words = [word.replace("TMP", str(place)) for word in JSON[name] or []]
    assert call(monkeypatch, name, *words, "--json") == 0
    out = capfd.readouterr().out
    found = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["command"] == name and KEYS[name] <= set(found)
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
    documented = page.partition("## JSON")[2].partition("\n## ")[0]
    assert not [key for key in found if f"`{key}`" not in documented], "a key that the docs lack"


@pytest.mark.parametrize(
    "line",
    [
        ["report", "PLAIN"],
        ["open", "PLAIN"],
        ["verify", "PLAIN"],
        ["check", "PLAIN", "plan.json"],
        ["merge", "PLAIN", "--out", "TMP/new"],
        ["calibrate", "PLAIN"],
        ["plan", "--pilot", "PLAIN"],
        ["audit", "tiny-olmoe", "--out", "PLAIN", "--plan", "PLAIN"],
        ["prune", "tiny-olmoe", "--out", "PLAIN"],
        ["screen", "tiny-olmoe", "--out", "PLAIN"],
        ["inspect", "PLAIN"],
    ],
    ids=lambda line: line[0],
)
def test_a_folder_that_is_no_run_is_one_paragraph(line, place, monkeypatch, capfd):
    before = sorted(place.rglob("*"))
    words = [w.replace("PLAIN", str(place / "plain")).replace("TMP", str(place)) for w in line]
    assert call(monkeypatch, *words) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("moeaudit: ")
    assert str(place / "plain") in err
    assert sorted(place.rglob("*")) == before
