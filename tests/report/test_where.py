"""The section on domains: what it says, its table and its forest, and what it says without domains."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from made import synthetic

from moeaudit.front import Run
from moeaudit.report import render
from moeaudit.report.figures.domains import where
from moeaudit.report.words.where import (
    ACROSS,
    WITHIN,
    _needed,
    rows,
    sentences,
    strongest,
    told,
)
from moeaudit.text.shift import SHARE, audit_of


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Six documents in each of four domains: enough for limits."""
    folder = synthetic.write_run(tmp_path_factory.mktemp("wide"), documents=24, tokens=15)
    return Run.load(folder)


def test_the_sentences_count_the_table(wide):
    said, across = sentences(wide), wide.across_domains
    mine = across[(across["role"] == "metric") & (across["outcome"] == "delta_nll")]
    for question in (WITHIN, ACROSS):
        part = mine[(mine["question"] == question) & mine["reason"].isna()]
        differ = int((part["p_holm"] <= 0.05).sum())
        assert f"in {differ} of {len(part)} cells" in said[0]
    assert said[0].startswith("Domains differ in what is found of harm")
    assert "Other domains were not run, so nothing here speaks of them." in said


def test_a_row_a_metric_and_question(wide):
    cells = told(wide)
    assert cells is not None
    table = rows(cells, "delta_nll", 0.05)
    names = set(cells["metric"])
    assert len(table) == 2 * len(names)
    for row in table:
        mine = cells[(cells["metric"] == row["metric"]) & (cells["outcome"] == "delta_nll")]
        mine = mine[mine["question"] == (WITHIN if row["question"] == "within a token" else ACROSS)]
        assert row["layers"] == len(mine) == 6
        assert row["most"] == pytest.approx(mine["most"].max())
        assert row["median"] == pytest.approx(np.median(mine["estimate"].dropna().astype(float)))
        assert row["held"] is None


def test_the_forest_draws_every_domain_of_the_strongest_cells(wide):
    figure, cells = where(wide), told(wide)
    assert figure is not None and cells is not None
    estimates = wide.domains[wide.domains["domain"] == "code"]
    assert estimates["estimate"].notna().any()
    assert len(re.findall(r'<circle [^>]*class="v-pred"', figure.drawing)) == 2 * 4
    assert figure.drawing.count('class="bar v-pred"') == 2 * 4
    for question in (WITHIN, ACROSS):
        cell = strongest(cells, question, "delta_nll")
        assert cell is not None
        part = cells[(cells["question"] == question) & (cells["outcome"] == "delta_nll")]
        assert abs(cell["whole"]) == part["whole"].abs().max()
        assert f"layer {cell['layer']}, " in figure.drawing
        if np.isfinite(cell["without_least"]):
            assert f"without {cell['without_least_domain']}, " in figure.drawing
    assert "one left out" in figure.drawing
    for domain in synthetic.DOMAINS:
        assert f">{domain}<" in figure.drawing


def test_the_section_stands_on_the_page_once(wide):
    page = render(wide)
    assert page.count('<section id="where"') == 1
    assert page.count('href="#where"') == 1
    section = re.search(r'<section id="where".*?</section>', page, flags=re.DOTALL)
    assert section is not None and "Where it holds, harm" in section.group()


def test_domains_of_few_documents_are_said_to_be_too_few(run, shown):
    """The made-up run has three documents in a domain."""
    assert where(run) is None
    assert "Domains cannot be compared: only 0 domains have an estimate" in shown


def test_a_run_without_the_tables_says_so(tmp_path):
    folder = synthetic.write_run(tmp_path / "old", documents=8, tokens=10)
    (folder / "across_domains.parquet").unlink()
    old = Run.load(folder)
    assert where(old) is None
    assert "no tables by domain" in sentences(old)[0]


def test_the_section_says_what_was_declared_and_has_an_interactive_face(wide, shown):
    figure = where(wide)
    assert figure is not None and figure.plot is not None
    assert set(wide.figures()) >= {"maps", "contrasts", "where"}
    marks = [t for t in figure.plot.data if t.mode == "markers"]
    assert len(marks) == 2  # a panel a question, all domains the audit's own
    estimates = wide.domains["estimate"].astype(float)
    for trace in marks:
        assert sorted(trace.y) == sorted(synthetic.DOMAINS)
        assert all(np.isclose(estimates, x, atol=1e-4).any() for x in trace.x)
    page = render(wide)
    section = re.search(r'<section id="where".*?</section>', page, flags=re.DOTALL)
    assert section is not None
    assert 'data-plot="where"' in section.group() and 'id="plot-where"' in section.group()
    assert "Exploratory: how far domains differ" in section.group()
    assert "Exploratory: how far domains differ" in shown  # also where domains cannot be compared


def test_what_a_verdict_in_other_domains_needs_is_said_in_documents(run):
    (said,) = _needed(run, 4)
    assert "needs 12 documents at least, and 4 were read" in said
    assert "an audit of 40 documents (this one has 12)" in said
    assert _needed(run, 12) == []
    assert [math.ceil(SHARE * n) for n in (39, 40)] == [11, 12] and audit_of(12) == 40
