"""The sentences: they follow the verdicts, and never claim a null that was not shown."""

from __future__ import annotations

import pandas as pd
import pytest

from moeaudit.report.words.answer import answer, verdict_table
from moeaudit.report.words.evidence import Evidence, metric_name, read

OVERALL = {
    "rows": 1000.0,
    "delta_nll": 0.01,
    "delta_nll_low": 0.005,
    "delta_nll_high": 0.015,
    "harmful": 0.55,
    "flip": 0.04,
}


def evidence(harm: list[str], disturbance: list[str]) -> Evidence:
    """One metric, a layer per verdict."""
    rows = [
        {
            "outcome": outcome,
            "metric": "utilisation",
            "role": "metric",
            "layer": layer,
            "n": 500,
            "documents": 20,
            "d_z": None if verdict == "not estimable" else 0.01 * (1 + layer),
            "low": 0.0,
            "high": 0.1,
            "p": 0.5,
            "p_adjusted": 0.5,
            "sesoi": 0.1,
            "mde": 0.14,
            "verdict": verdict,
            "reason": None,
        }
        for outcome, verdicts in (("delta_nll", harm), ("kl", disturbance))
        for layer, verdict in enumerate(verdicts)
    ]
    return Evidence(pd.DataFrame(rows).astype({"d_z": "float64"}), pd.DataFrame())


SIZE, BELOW = "present, size open", "present but below"
NONE, OPEN, YES = "equivalent to none", "inconclusive", "predictive"


@pytest.mark.parametrize(
    ("harm", "disturbance", "words"),
    [
        ([YES, OPEN], [YES, YES], "predict disturbance in 2 and harm in 1 of 2"),
        ([NONE, NONE], [YES, OPEN], "all 2 contrasts are below the size of interest"),
        ([NONE, OPEN], [YES, OPEN], "none is shown to know any"),
        ([OPEN, OPEN], [OPEN, OPEN], "Too little text to say"),
        ([YES, OPEN, OPEN], [OPEN, OPEN, YES], "Too little text to say"),
        ([NONE, SIZE], [NONE, BELOW], "something of harm in 1 of 2 and of disturbance in 1 of 2"),
        ([NONE, OPEN], [NONE, NONE], "not all is decided"),
        ([NONE, NONE], [NONE, NONE], "No routing metric predicts harm or disturbance"),
        ([YES, NONE], [NONE, NONE], "predict harm in 1 of 2"),
    ],
)
def test_the_headline_follows_the_verdicts(harm, disturbance, words):
    assert words in answer(evidence(harm, disturbance), OVERALL, "m").headline


def test_an_outcome_of_its_own_is_not_said_to_be_predicted_where_nothing_is():
    for verdict, words in (
        (YES, "Routing metrics predict top prediction changed in 1 of 1"),
        (SIZE, "No routing metric is shown to predict top prediction changed by more than"),
    ):
        made = evidence([verdict], [NONE])
        rows = made.contrasts[made.contrasts["outcome"] == "delta_nll"].assign(outcome="flip")
        said = answer(Evidence(rows, pd.DataFrame()), OVERALL, "m").headline
        assert said.startswith(words) and "on text like this" in said
    assert "something is shown in 1 of 1" in said


def test_undecided_is_never_called_absent():
    said = answer(evidence([OPEN, OPEN], [OPEN, OPEN]), OVERALL, "m")
    assert "2 undecided" in said.sentences[1]
    assert "2 contrasts of harm can neither be shown nor ruled out" in said.thin
    assert "No routing metric predicts" not in said.headline


def test_the_evidence_is_counted_in_documents():
    said = answer(evidence([OPEN], [OPEN]), OVERALL, "m")
    assert "20 documents are the sampling unit" in said.thin
    assert "80% power from d_z = 0.14" in said.thin


def test_nothing_estimable_is_said_so():
    table = evidence(["not estimable"], ["not estimable"])
    said = answer(table, OVERALL, "m")
    assert "1 not estimable" in said.sentences[1]
    assert verdict_table(table)[0]["delta_nll"]["best"] is None


def test_tests_of_a_run_become_evidence(run):
    found = read(run.tests)
    assert found.count("delta_nll") == 5 * 6
    assert set(found.contrasts["role"]) == {"metric", "control"}
    assert set(found.harm["metric"]) == set(found.contrasts["metric"]) - {"random_score"}
    assert found.harm["rho"].between(-1, 1).all()
    assert (found.contrasts["low"] <= found.contrasts["high"]).all()


def test_unknown_metrics_keep_their_name():
    assert metric_name("my_own_score") == ("my own score", "")


def test_what_luck_over_experts_could_have_made_is_not_called_a_want_of_text():
    made = evidence([OPEN, OPEN], [OPEN, OPEN])
    rows = made.contrasts.assign(verdict_these_experts=YES, p_experts_maxt=0.4, p_adjusted=0.01)
    said = answer(Evidence(rows.assign(of_oracle=0.5), pd.DataFrame()), OVERALL, "m")
    assert said.headline.startswith("Too few experts to say")
    assert "more text may show them small" in said.thin
    assert "2 differ from zero for these experts; 0 of them by more" in said.sentences[1]
    assert "reaches 50% (median)" in said.sentences[1]


def test_the_figure_draws_luck_over_experts_and_the_caption_says_so(run, shown):
    found = read(run.tests).contrasts
    assert found["null_high"].notna().sum() > 0
    assert shown.count('class="luck"') == int(found["null_high"].notna().sum())
    assert "luck over experts" in shown
