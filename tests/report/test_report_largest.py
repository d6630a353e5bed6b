"""The largest of many and the estimates that sound like bounds are never printed without a word."""

from __future__ import annotations

import pandas as pd
import pytest

from moeaudit.cli.terminal.verdicts import verdict_table as console_table
from moeaudit.report.figures import associations
from moeaudit.report.words import largest
from moeaudit.report.words.answer import answer
from moeaudit.report.words.evidence import read

OVERALL = {
    "rows": 1000.0,
    "delta_nll": 0.01,
    "delta_nll_low": 0.005,
    "delta_nll_high": 0.015,
    "harmful": 0.55,
    "flip": 0.04,
}


def test_the_ceiling_has_limits_and_a_word_where_it_is_exceeded():
    row = {"rho": -0.91, "ceiling": 0.83, "ceiling_low": 0.7, "ceiling_high": 0.92}
    assert largest.ceiling(row) == "0.83 [0.70, 0.92], which this estimate exceeds"
    assert largest.ceiling(row | {"rho": 0.8}) == "0.83 [0.70, 0.92]"
    assert largest.ceiling({"rho": 0.9, "ceiling": 0.83}) == "0.83, which this estimate exceeds"


def test_a_held_out_value_has_the_sign_of_the_largest():
    row = {"d_z": -0.3, "largest_held_out": 0.2, "metric_largest_held_out": -0.1}
    assert largest.held_out(row).endswith("the largest is \N{MINUS SIGN}0.20")
    assert largest.of_metric(row) == "+0.10"  # the halves disagree
    assert largest.held_out({"d_z": -0.3}) == largest.of_metric({"d_z": -0.3}) == ""


def test_the_answer_prints_the_largest_with_what_other_documents_show(run):
    evidence = read(run.tests)
    said = answer(evidence, OVERALL, "m").sentences
    for outcome, text in (("delta_nll", said[1]), ("kl", said[2])):
        best = evidence.strongest(outcome, None)
        assert largest.HELD_OUT in text and largest.of_family(best) in text
        assert f"the largest of {evidence.count(outcome)}, so with some luck" in text
        beside = next(each for each in said if each.startswith("For comparison"))
        assert "an estimate and no bound" in beside
        oracle = evidence.control(outcome, "heldout_causal")
        assert largest.with_limits(oracle) in beside and "[" in largest.with_limits(oracle)


def test_the_page_marks_a_ceiling_that_is_exceeded(run, shown):
    rows = read(run.tests).harm
    assert "no bound" in shown and "ceiling [95% interval]" in shown
    above = associations._exceeded(rows[rows["outcome"] == "delta_nll"])
    first = rows[
        (rows["outcome"] == "delta_nll") & rows["rho"].notna() & (rows["role"] == "metric")
    ]
    raised = rows.copy()
    raised.loc[first.index[0], "ceiling"] = 0.5 * abs(float(first["rho"].iloc[0]))
    layer = int(first["layer"].iloc[0])
    assert layer in associations._exceeded(raised)
    assert above <= set(rows["layer"])
    same = raised["layer"] == layer
    raised.loc[same, "ceiling"] = raised.loc[first.index[0], "ceiling"]
    mine = raised[raised["outcome"] == "delta_nll"]
    drawn = [
        associations._matrix(mine, associations.WIDTH, associations.LEFT, "wide"),
        associations._matrix(mine, associations.NARROW, associations.LEFT_NARROW, "narrow"),
    ]
    words = f"{raised.loc[first.index[0], 'ceiling']:.2f}*"
    assert all(words in part for part in drawn)


def test_the_console_says_it_in_80_columns(run):
    from rich.console import Console

    evidence = read(run.tests)
    screen = Console(width=80, record=True, force_terminal=False)
    screen.print(console_table(evidence))
    text = " ".join(screen.export_text().split())
    assert "picked in one half of the documents and read in the other: harm" in text
    assert largest.of_family(evidence.strongest("kl", None)) in text


@pytest.mark.parametrize("verdict", ["present, size open", "present but below", "predictive"])
def test_rank_correlations_are_counted_by_their_graded_words(verdict):
    row = {
        "outcome": "delta_nll",
        "metric": "reap",
        "role": "metric",
        "layer": 3,
        "n": 9,
        "documents": 20,
        "rho": 0.91,
        "low": 0.8,
        "high": 0.96,
        "ceiling": 0.83,
        "sesoi": 0.3,
        "ceiling_low": 0.7,
        "ceiling_high": 0.92,
        "largest_held_out": 0.85,
        "verdict": verdict,
    }
    from moeaudit.report.words.answer import _across
    from moeaudit.report.words.evidence import Evidence

    contrasts = pd.DataFrame({"outcome": ["delta_nll"], "metric": "reap", "role": "metric"})
    (said,) = _across(Evidence(contrasts, pd.DataFrame([row, row | {"verdict": "inconclusive"}])))
    assert "1 of 2 rank correlations" in said
    assert f"{int(verdict == 'predictive')} of them above 0.30" in said
    assert "ceiling about 0.83 [0.70, 0.92], which this estimate exceeds" in said
    assert said.endswith("read in the other, the largest is +0.85.")
