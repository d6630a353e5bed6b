"""`moeaudit calibrate`: from a file to tables and page, or one paragraph and nothing else."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from made.predictions import predictions

from moeaudit import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["moeaudit", "calibrate", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    p = predictions(600, documents=40, power=1.6)
    group = np.array(["code", "<script>alert(1)</script>"])[p.documents % 2]
    return pd.DataFrame(
        {"confidence": p.confidence, "correct": p.correct, "group": group, "document": p.document}
    )


FAST = ("--draws", 40, "--bins", 6)


def test_a_file_becomes_tables_and_a_page(frame, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "p.csv", tmp_path / "out"
    frame.to_csv(file, index=False)
    assert call(monkeypatch, file, *FAST, "--out", out) == 0
    said = capsys.readouterr().out
    assert said.startswith("Over-confident by") and "40 documents" in said
    assert {p.name for p in out.iterdir()} == {
        "calibration.html",
        "calibration.json",
        "scores.parquet",
        "scores.csv",
        "reliability.parquet",
        "reliability.csv",
    }
    page = (out / "calibration.html").read_text()
    assert page.count("<script") == 1 and "&lt;script&gt;alert(1)" in page
    assert "Over-confident by" in page and not re.search(r'(src|href)="(?!#)', page)
    assert not re.search(r"\b(nan|None|<NA>)\b", page)
    table = pd.read_parquet(out / "scores.parquet")
    assert len(table) == len(pd.read_csv(out / "scores.csv"))
    # once more over the same folder: the same bytes
    assert call(monkeypatch, file, *FAST, "--out", out) == 0
    assert (out / "calibration.html").read_text() == page
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".writing")]


def test_json_of_a_parquet_file_with_other_names(frame, tmp_path, monkeypatch, capsys):
    file = tmp_path / "p.parquet"
    frame.rename(columns={"confidence": "p", "correct": "ok", "document": "page"}).to_parquet(file)
    names = ("--confidence", "p", "--correct", "ok", "--document", "page")
    assert call(monkeypatch, file, *FAST, *names, "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert got["settings"]["bins"] == 6
    scores = {(r["stratum"], r["score"]): r for r in got["scores"]}
    gap = (frame["confidence"] - frame["correct"]).mean()
    assert scores["all", "gap"]["value"] == pytest.approx(gap)
    assert scores["all", "gap"]["documents"] == 40 and got["reliability"][0]["n"] == 100


BAD = {
    "no file": (None, (), "is no file"),
    "empty": ("", (), "is empty"),
    "header only": ("confidence,correct\n", (), "no predictions"),
    "no such column": ("a,b\n1,2\n", (), "lacks the columns confidence, correct"),
    "named column missing": ("confidence,correct\n.5,1\n", ("--group", "g"), "lacks the column g"),
    "percentages": ("confidence,correct\n55,1\n", (), "divided by 100"),
    "missing value": ("confidence,correct\n,1\n.5,0\n", (), "not in [0, 1]"),
    "words": ("confidence,correct\n.5,perhaps\n", (), "neither true nor false"),
    "ragged": ("confidence,correct\n.5,1\n.5,1,2,3\n", (), "line 3 has 4 fields"),
    "damaged": ("PAR1 and no more", (), "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_bad_file_is_one_paragraph_and_leaves_nothing(case, tmp_path, monkeypatch, capsys):
    text, options, words = BAD[case]
    file, out = tmp_path / "p.csv", tmp_path / "out"
    if text is not None:
        file.write_text(text)
    assert call(monkeypatch, file, *options, "--out", out) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("moeaudit: ") and said.err.count("\n") == 1
    assert words in said.err
    assert not out.exists() and {p.name for p in tmp_path.iterdir()} <= {"p.csv"}


def test_a_folder_of_other_things_is_left_alone(frame, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "p.csv", tmp_path / "mine"
    frame.to_csv(file, index=False)
    out.mkdir()
    (out / "thesis.tex").write_text("!")
    assert call(monkeypatch, file, *FAST, "--out", out) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_too_little_is_a_table_of_reasons(tmp_path, monkeypatch, capsys):
    file = tmp_path / "p.csv"
    file.write_text("confidence,correct\n" + ".5,1\n.6,0\n" * 3)
    assert call(monkeypatch, file, *FAST, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "an effective sample size of 6.0" in said and "no document column" in said
    assert said.count("an effective sample size of 6.0") == 1  # once for all scores
    assert "not estimable" in (tmp_path / "out" / "calibration.html").read_text()


def test_a_stratum_too_small_keeps_its_name_and_says_why(frame, tmp_path, monkeypatch, capsys):
    """On a narrow screen too: the reason stands below the table and squeezes no column."""
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "p.csv"
    frame.assign(group=np.where(np.arange(len(frame)) < 3, "tiny", "whole")).to_csv(
        file, index=False
    )
    assert call(monkeypatch, file, *FAST) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("By group")) :]
    assert any(line.split()[:3] == ["tiny", "3", "-"] for line in table)
    assert any(line.split()[:2] == ["whole", "597"] for line in table)
    assert any(line.startswith("tiny: not estimable: an effective sample size") for line in table)


def test_one_document_is_said_to_allow_no_resampling(frame, tmp_path, monkeypatch, capsys):
    file = tmp_path / "p.csv"
    frame.assign(document="only").to_csv(file, index=False)
    assert call(monkeypatch, file, *FAST) == 0
    assert "600 predictions of 1 document: nothing can be resampled." in capsys.readouterr().out


def test_many_groups_show_how_far_it_is(frame, tmp_path, monkeypatch, capsys):
    file = tmp_path / "p.csv"
    frame.assign(group=np.arange(len(frame)) % 57).to_csv(file, index=False)
    assert call(monkeypatch, file, *FAST) == 0
    said = capsys.readouterr()
    assert "scores: 58 groups in" in said.err and "reliability: 57 groups in" in said.err
    assert "scores:" not in said.out
