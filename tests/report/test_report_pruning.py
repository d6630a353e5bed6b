"""The page and the terminal table of a pruning curve: sentences that hold, whole names, nothing but one file."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made.architectures import BY_NAME
from rich.console import Console

import moeaudit as ma
from moeaudit.cli.terminal.pruning import cost_tables
from moeaudit.errors import RunError
from moeaudit.report.pages.policy import source_hash
from moeaudit.report.pruning.words import headline, luck, sentences

LONG = "a ranking with a name of its own & <angles>"


def texts(first: int, count: int) -> list[np.ndarray]:
    return [np.random.default_rng(s).integers(3, 300, 9) for s in range(first, first + count)]


@pytest.fixture(scope="module")
def curve() -> Any:
    model = ma.load(BY_NAME["olmoe"].build(num_hidden_layers=3))
    rows = [(layer, e, float(e)) for layer in range(3) for e in range(8)]
    mine = pd.DataFrame(rows, columns=["layer", "expert", "score"])
    criteria = {LONG: mine, "reap": None, "router_norm": None}
    return ma.prune_curve(
        model, texts(0, 13), criteria, (0.75, 0.5), calibration=texts(50, 4), layers=("all", "early"), draws=4
    )  # fmt: skip


def test_the_page_is_one_file_with_a_sentence_a_table_and_a_figure(curve: Any, tmp_path: Path):
    page = curve.report(tmp_path / "page.html").read_text("utf-8")
    script = re.search(r"<script>(.*?)</script>", page, flags=re.S)
    assert script and page.count("<script") == 1  # the tables' alone
    assert source_hash(script[1]) in html.unescape(page)
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert 'name="viewport"' in page and 'lang="en"' in page and "<title>Pruning of" in page
    panels = re.findall(r'aria-label="Loss added by each pruning criterion, ([^"]*)"', page)
    assert len(set(panels)) == 4 and page.count('class="band"') == 4
    assert "&lt;angles&gt;" in page and "<angles>" not in page
    assert not re.search(
        r"\bnan\b|None|inf\b", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    )
    table = curve.table.set_index(["criterion", "depth", "keep"])
    for name in ("reap", LONG):
        assert f"{table.loc[(name, 'all', 0.5), 'ppl']:.3f}" in page
    assert f"{np.exp(curve.clean_nll):.3f}" in page
    gone = curve.banned[int(np.flatnonzero(curve.table["criterion"] == LONG)[0])]
    assert ", ".join(map(str, gone[2])) in page
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(RunError, match="not a report of moeaudit"):
        curve.report(tmp_path / "mine.html")


def test_the_overview_has_the_whole_model_and_the_draws_band(curve: Any):
    table = curve.overview()
    whole = table[table["kind"] == "whole"]
    assert len(whole) == 4 and whole["ppl"].tolist() == [np.exp(curve.clean_nll)] * 4
    band = curve.band()
    drawn = table[table["kind"] == "random"]
    assert drawn["d_nll"].tolist() == band["mean"].tolist()
    assert drawn[["low", "high"]].to_numpy().tolist() == band[["low", "high"]].to_numpy().tolist()
    assert "whole model" in curve._repr_html_()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_terminal_cuts_no_name(curve: Any, width: int):
    screen = Console(width=width, file=io.StringIO())
    screen.print(cost_tables(curve, width))
    said = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "\N{HORIZONTAL ELLIPSIS}" not in said and "router_norm" in said
    assert "nats a" in said and ("KL," in said) == (width >= 100)
    plain = Console(width=width, file=io.StringIO())
    plain.print(cost_tables(curve, width, "ascii"))
    assert plain.file.getvalue().isascii()  # pyright: ignore[reportAttributeAccessIssue]


def test_the_headline_is_what_the_table_says(curve: Any):
    said = headline(curve)
    cell = curve.table[(curve.table["depth"] == "all") & (curve.table["keep"] == 0.5)]
    named = cell[cell["criterion"] != "random"]["d_nll"]
    for value in (named.min(), named.max(), cell[cell["criterion"] == "random"]["d_nll"].mean()):
        assert f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") in said
    assert said.startswith("Without 50% of its experts")
    listed = " ".join(sentences(curve))
    assert "shown for 0 of 12 cuts" in listed and "13 documents (104 tokens)" in listed


def test_too_little_text_and_no_draws_say_so():
    model = ma.load(BY_NAME["olmoe"].build(num_hidden_layers=1))
    few = ma.prune_curve(model, texts(0, 3), ["reap"], 0.5, calibration=texts(50, 3), draws=0)
    assert headline(few).startswith("Too little text to say: 3 documents")
    assert "no random choices were drawn" in " ".join(sentences(few))
    row = few.overview().to_dict("records")[-1]
    assert luck(row, 0.01) == (
        "\N{EN DASH}",
        "not asked: no random choices were drawn (draws = 0)",
    )
    nothing = ma.prune_curve(model, texts(0, 13), ["reap"], 1.0, calibration=texts(50, 3), draws=0)
    assert headline(nothing) == "No expert went, so nothing changed"
    only = ma.prune_curve(model, texts(0, 13), ["random"], 0.5, calibration=texts(50, 3), draws=3)
    assert "chosen at random, the loss" in headline(only)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (("predictive", "experts of this layer", "predictive", 0.1, 0.2), "yes"),
        (("present, size open", "experts of this layer", "predictive", 0.1, 0.2), "yes, size open"),
        (("inconclusive", "these experts", "predictive", 0.1, 0.2), "cheaper here"),
        (("inconclusive", "these experts", "present, size open", 0.001, 0.2), "cheaper here"),
        (("inconclusive", "these experts", "reversed", -0.2, -0.1), "dearer here"),
        (("inconclusive", "these experts", "equivalent to none", -0.001, 0.001), "alike here"),
        (("inconclusive", None, "inconclusive", -0.1, 0.1), "open"),
        (("too few documents to say", None, "too few documents to say", 0.1, 0.2), "too little text"),
    ],
)  # fmt: skip
def test_words_about_luck_need_documents_and_draws(row: Any, word: str):
    names = (
        "verdict",
        "supports",
        "verdict_these_experts",
        "simultaneous_low",
        "simultaneous_high",
    )
    assert luck(dict(zip(names, row)), 0.01)[0] == word
