"""The size of interest on the page: in words, in every figure, and what verdicts hang on."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from moeaudit.report.figures.contrasts import contrasts
from moeaudit.report.figures.sizes.bounds import bounds
from moeaudit.report.words.answer import answer
from moeaudit.report.words.bound import bound_words, short_bound
from moeaudit.report.words.evidence import Evidence, read
from moeaudit.report.words.operator import ZERO
from moeaudit.report.words.robust import tails
from moeaudit.stats import verdicts_at, verdicts_over

OVERALL = {
    "rows": 1000.0,
    "delta_nll": 0.01,
    "delta_nll_low": 0.005,
    "delta_nll_high": 0.015,
    "harmful": 0.55,
    "flip": 0.04,
}
SIZES = {
    "winsorised_d_z": 0.05,
    "winsorised_d_z_low": 0.04,
    "winsorised_d_z_high": 0.06,
    "rank_biserial": 0.05,
    "rank_biserial_low": 0.04,
    "rank_biserial_high": 0.06,
    "top_share": 0.6,
}


def evidence(verdicts: list[str], declared: str = "0.01nats", **more: float) -> Evidence:
    """One metric of one outcome, a layer per verdict; bounds that grow with the layer."""
    rows = [
        {
            "outcome": "delta_nll",
            "metric": "reap",
            "role": "metric",
            "layer": layer,
            "n": 500,
            "documents": 40,
            "d_z": 0.05,
            "low": 0.04,
            "high": 0.06,
            "p": 0.5,
            "p_adjusted": 0.5,
            "sesoi": 0.02 * (1 + layer),
            "mde": 0.14,
            "verdict": verdict,
            "reason": None,
            **SIZES,
            **more,
        }
        for layer, verdict in enumerate(verdicts)
    ]
    return Evidence(pd.DataFrame(rows), pd.DataFrame(), declared=declared)


@pytest.mark.parametrize(
    ("declared", "words", "short"),
    [
        ("0.01nats", "0.01 nats", "0.01"),
        ("50%harm", "50% of the layer's mean", "50%"),
        (0.1, "d_z of 0.1", "0.1"),
    ],
)
def test_a_bound_in_words(declared, words, short):
    assert (bound_words(declared), short_bound(declared)) == (words, short)


def test_sentences_name_the_bound_as_it_was_declared():
    said = answer(evidence(["predictive", "present but below"]), OVERALL, "m")
    assert "by more than 0.01 nats" in said.headline
    assert (
        "1 of 2 contrasts are predictive (above 0.01 nats, with experts as a sample too)"
        in said.sentences[1]
    )
    assert "1 present but below that" in said.sentences[1]
    assert "smallest effect of interest is 0.01 nats, which is 0.020 to 0.040 by cell" in said.thin


def test_the_headline_says_how_much_is_open_behind_a_finding():
    found = answer(evidence(["predictive", "inconclusive", "equivalent to none"]), OVERALL, "m")
    assert found.headline.endswith("; 1 of all 3 are undecided")


def test_too_few_documents_counts_as_undecided():
    few = "too few documents to say"
    said = answer(evidence([few, few, "predictive"]), OVERALL, "m")
    assert said.headline.startswith("Too little text to say")
    assert "2 of 3 contrasts are undecided" in said.headline
    assert "2 undecided for too few documents" in said.sentences[1]
    assert "2 contrasts of harm can neither be shown nor ruled out" in said.thin


def test_the_zone_of_no_interest_is_drawn_for_each_cell():
    made = evidence(["inconclusive"] * 3)
    drawing = contrasts(made, ZERO).drawing
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="band"', drawing)]
    assert len(heights) == 3
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.05)
    assert heights[2] == pytest.approx(3 * heights[0], abs=0.05) or heights[2] > heights[1]
    caption = contrasts(made, ZERO).caption
    assert (
        "less than 0.01 nats, in each cell&#39;s own" in caption or "own d<sub>z</sub>" in caption
    )


def test_heavy_tails_are_told_with_the_sizes_they_do_not_move():
    text = tails(evidence(["inconclusive"] * 2), "delta_nll")
    assert "largest 1% of tokens carry 60%" in text and "+0.050 [+0.040, +0.060]" in text
    assert "twice" not in text and "lean" not in text
    larger = {"winsorised_d_z": 0.2, "winsorised_d_z_low": 0.19, "winsorised_d_z_high": 0.21}
    assert "2 contrasts that size is more than twice d_z" in tails(
        evidence(["inconclusive"] * 2, **larger), "delta_nll"
    )
    against = {"rank_biserial": -0.2, "rank_biserial_low": -0.3, "rank_biserial_high": -0.1}
    text = tails(evidence(["inconclusive"], **against), "delta_nll")
    assert "1 contrast most tokens lean one way and the mean the other (REAP in layer 0" in text
    assert tails(evidence(["inconclusive"], top_share=0.1), "delta_nll") is None


def test_the_figure_counts_what_the_statistics_count(run):
    figure = bounds(run.tests, run.spec.sesoi)
    found = verdicts_over(run.tests, ["0.01nats"]).set_index("outcome")
    for outcome, name in (("delta_nll", "Harm"), ("kl", "Disturbance")):
        for verdict in set(found.columns) & {"predictive", "inconclusive", "equivalent to none"}:
            n = int(found.loc[outcome, verdict])
            title = f"<title>{name}, 0.01 nats: {n} {verdict}</title>"
            assert (title in figure.drawing) == (n > 0)
    assert figure.drawing.count('class="chosen"') == 2
    rows = verdicts_at(run.tests, run.spec.sesoi)
    declared = run.tests.loc[rows.index, "verdict"]
    assert rows["verdict"].tolist() == declared.tolist()


def test_the_page_shows_robust_sizes_and_the_grid(run, shown):
    assert read(run.tests).contrasts["top_share"].between(0, 1).all()
    for words in ("winsorised d_z [95% interval]", "rank-biserial", "largest 1% carry"):
        assert words in shown
    assert 'id="bounds"' in shown and "the declared row" in shown
