"""The control of equal gate weight on the page: its sentence, its points, and runs without it."""

from __future__ import annotations

import pandas as pd

from moeaudit.report.figures.mass import mass
from moeaudit.report.words.operator import ZERO


def table(**change) -> pd.DataFrame:
    rows = [
        {
            "outcome": outcome, "metric": metric, "role": role, "layer": layer, "size": 1, "n": 40,
            "n_documents": 20, "n_dropped": 60, "difference": 0.01, "d_z": 0.1, "d_z_low": 0.05,
            "d_z_high": 0.15, "p": 0.001, "p_holm": 0.004, "mass": 0.11, "mass_control": 0.1,
            "verdict_these_experts": "present, size open" if layer else "inconclusive",
            "supports": "these experts" if layer else None, "too_few": None, "reason": None, **change,
        }
        for outcome in ("delta_nll", "kl")
        for metric, role in (("reap", "metric"), ("ean", "metric"), ("random_score", "control"))
        for layer in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_sentence_counts_metrics_and_says_how_many_tokens_are_left():
    figure = mass(table(), ZERO)
    assert figure is not None and figure.plot is not None
    assert (
        "is shown to differ in harm in 2 of 4 and in disturbance in 2 of 4 contrasts"
        in figure.caption
    )
    assert "(40% of the tokens of a contrast have one)" in figure.caption
    assert figure.drawing.count('class="bar v-size"') == 2 * 2  # metrics of layer 1, two outcomes
    assert len(figure.plot.data) == 3 * 2
    assert figure.table.count("present, size open") == 3 * 2


def test_too_little_text_is_said_so():
    few = {"verdict_these_experts": "too few documents to say", "too_few": "9 documents"}
    figure = mass(table(**few), ZERO)
    assert figure is not None
    assert "harm in 0 of 4 (4 have too little text to say)" in figure.caption


def test_a_run_without_the_table_or_without_such_tokens_has_no_figure():
    assert mass(None, ZERO) is None
    assert mass(pd.DataFrame([{"outcome": "kl", "reason": "one expert is active"}]), ZERO) is None


def test_an_outcome_without_such_tokens_is_named_beside_the_other():
    other = table()
    none = pd.DataFrame([{"outcome": "kl", "reason": "one expert is active."}])
    figure = mass(pd.concat([other[other["outcome"] == "delta_nll"], none]), ZERO)
    assert figure is not None and figure.drawing.count('class="bar v-size"') == 2
    assert figure.caption.endswith("Not of disturbance: one expert is active.")


def test_the_audit_of_the_page_has_it(run, shown):
    found = run.equal_mass
    assert set(found["metric"]) >= {"reap", "random_score"}
    assert found["n"].gt(0).all() and (found["n_documents"] == 12).any()
    close = (found["mass"] - found["mass_control"]).abs() <= 0.1 * found["mass"]
    assert close.all()
    assert "At equal gate weight the expert that a metric puts first is shown to differ" in shown
