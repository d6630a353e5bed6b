"""`moeaudit compare`: sentences, a page, JSON, and one paragraph where it cannot."""

from __future__ import annotations

import json
import sys

import pytest
from made import altered


@pytest.fixture(scope="module")
def two(made_up, tmp_path_factory):
    """The made-up run twice, the second under another operator's name."""
    question = {"name": "reroute", "operator": {"operator": "Reroute", "scores": "kept"}}
    second = tmp_path_factory.mktemp("compare") / "second"
    return made_up, altered.copy(made_up, second, question=question)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    from moeaudit.cli import main

    monkeypatch.setattr(sys, "argv", ["moeaudit", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_sentences_a_table_and_a_page(two, tmp_path, monkeypatch, capfd):
    page = tmp_path / "page.html"
    assert call(monkeypatch, *two, "--out", page) == 0
    said = capfd.readouterr().out
    assert "every difference is exactly 0.0" in said and f"Report: {page}" in said
    assert page.read_text().count("<svg") > 3


def test_json_is_one_document(two, monkeypatch, capfd):
    assert call(monkeypatch, *two, "--json", "--outcomes", "kl", "--name", "a", "--name", "b") == 0
    said = json.loads(capfd.readouterr().out)
    assert said["command"] == "compare" and said["identical"] is True and said["report"] is None
    assert [run["name"] for run in said["runs"]] == ["a", "b"] and said["outcomes"] == ["kl"]


def test_a_page_of_another_comparison_needs_force(two, tmp_path, monkeypatch, capfd):
    page = tmp_path / "page.html"
    assert call(monkeypatch, *two, "--out", page, "--outcomes", "kl") == 0
    assert call(monkeypatch, *two, "--out", page) == 2
    assert "--force" in capfd.readouterr().err
    assert call(monkeypatch, *two, "--out", page, "--force") == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--across", "model"], "do not differ in model"),
        (["--across", "again"], "--across operator"),
        (["--sesoi", "much"], "--sesoi cannot be read"),
        (["--outcomes", ","], "No outcome was named"),
        (["--cells", "some"], "Choose one of check, index, none"),
    ],
)
def test_what_cannot_be_is_one_paragraph(two, monkeypatch, capfd, more, words):
    assert call(monkeypatch, *two, *more) == 2
    error = capfd.readouterr().err
    assert words in error and error.count("\n") == 1 and "Traceback" not in error


def test_one_run_is_too_few(two, monkeypatch, capfd):
    assert call(monkeypatch, two[0]) == 2
    assert "two run folders or more" in capfd.readouterr().err


def test_help_has_examples(monkeypatch, capfd):
    assert call(monkeypatch, "--help") == 0
    assert "moeaudit compare runs/tiny-olmoe runs/rerouted" in capfd.readouterr().out
