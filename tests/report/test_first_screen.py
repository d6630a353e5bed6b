"""The first screen: plain words, graded by the verdicts; terms that explain themselves; the command to ask again."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd

from moeaudit.report.audit.command import again
from moeaudit.report.audit.first import done, dropping, reading, sure
from moeaudit.report.audit.terms import TERMS, Explained
from moeaudit.report.words.evidence import Evidence, read
from moeaudit.report.words.operator import ZERO
from moeaudit.report.words.where import ACROSS

OVERALL = {"rows": 1000.0, "documents": 20.0, "delta_nll": 0.01, "flip": 0.04}
YES, NONE, OPEN, FEW = (
    "predictive",
    "equivalent to none",
    "inconclusive",
    "too few documents to say",
)
SIZE = "present, size open"


def evidence(harm=(), kl=(), ranks=(), gate=()) -> Evidence:
    """A layer a verdict: of two outcomes, of the rank correlations, and of the control's."""
    rows = [
        {
            "outcome": outcome,
            "metric": metric,
            "role": role,
            "layer": layer,
            "verdict": verdict,
            "reason": None,
            "d_z": 0.05,
            "mde": 0.14,
            "sesoi": 0.1,
            "documents": 20,
            "n": 500,
        }
        for outcome, metric, role, verdicts in (
            ("delta_nll", "reap", "metric", harm),
            ("kl", "reap", "metric", kl),
            ("delta_nll", "gate_weight", "control", gate),
        )
        for layer, verdict in enumerate(verdicts)
    ]
    across = [
        {
            "outcome": "delta_nll",
            "metric": "reap",
            "role": "metric",
            "layer": layer,
            "verdict": verdict,
            "rho": 0.6,
            "sesoi": 0.3,
            "ceiling": 0.8,
            "reason": None,
        }
        for layer, verdict in enumerate(ranks)
    ]
    columns = ["outcome", "metric", "role", "layer", "verdict", "rho", "sesoi", "ceiling", "reason"]
    harm_frame = pd.DataFrame(across, columns=columns)
    return Evidence(pd.DataFrame(rows), harm_frame, declared="0.01nats")


def test_where_most_is_undecided_nothing_is_advised():
    text = " ".join(dropping(evidence(ranks=[OPEN, FEW, YES]), None))
    assert "too little to say" in text and "2 of 3 comparisons are undecided" in text
    assert "Do not choose by a metric on this evidence" in text
    assert "better than chance" not in text
    text = " ".join(reading(evidence(harm=[OPEN, OPEN, YES], kl=[FEW, FEW]), ZERO))
    assert "undecided in 2 of 3 contrasts: no cause can be read off" in text
    assert "undecided in 2 of 2" in text and "by more than" not in text


def test_what_is_shown_is_said_with_its_size_and_where_it_holds():
    found = evidence(ranks=[SIZE, SIZE, NONE])
    text = " ".join(dropping(found, None))
    assert "better than chance in 2 of 3 metric-by-layer comparisons" in text
    assert "in none a rank correlation above 0.30 is shown" in text
    assert "Other domains were not run." in text
    assert text.endswith("was not measured here.")
    elsewhere = pd.DataFrame(
        {
            "question": ACROSS,
            "outcome": "delta_nll",
            "estimate": [0.6, 0.7],
            "there": [0.1, 0.0],
            "shown_there_ceiling": [0.4, 0.5],
        }
    )
    text = " ".join(dropping(found, elsewhere, 45))
    assert (
        "here +0.65, in 45 documents of other domains +0.05, where noise lets about 0.45 be" in text
    )
    assert "Measure on the text that you will use." in text
    few = " ".join(dropping(found, elsewhere, 7))
    assert "is open: 7 documents of them were read, and a verdict needs 12." in few
    assert "+0.05" not in few
    # What noise alone does to a correlation is no reason to measure again.
    noisy = elsewhere.assign(there=[0.25, 0.2])
    assert "Measure on" not in " ".join(dropping(found, noisy, 45))
    strong = " ".join(dropping(evidence(ranks=[YES, YES, NONE]), None))
    assert "In 2 a rank correlation above 0.30 is shown" in strong


def test_a_null_is_no_finding_and_a_gap_is_no_null():
    text = " ".join(dropping(evidence(ranks=[NONE, NONE, OPEN]), None))
    assert "not shown to beat choosing blindly" in text
    assert dropping(evidence(), None)[0] == "This run does not say which experts can be spared."
    assert "undecided in 2 of 3" in reading(evidence(harm=["not estimable"] * 2 + [YES]), ZERO)[0]


def test_reading_counts_every_contrast_once():
    found = evidence(harm=[YES, "reversed", NONE, "present but below", SIZE], gate=[YES, OPEN])
    first, *_, gate = reading(found, ZERO)
    assert "by more than 0.01 nats in 1 of 5 contrasts" in first
    assert "the other way round in 1, by less than that, if at all, in 2, not settled in 1" in first
    assert "by more than 0.01 nats in 1 of 2 layers" in gate
    assert len(reading(evidence(harm=[YES], gate=[OPEN]), ZERO)) == 1


def test_how_sure_it_is_follows_what_is_settled_and_the_check():
    good = [{"skipped": "", "n": 8, "agrees": True}] * 2  # the same rows, by two engines
    text = " ".join(sure(evidence(harm=[OPEN, OPEN, YES]), OVERALL, good, None))
    assert text.startswith("Little is settled: 2 of 3 contrasts are undecided")
    assert "20 documents of one mixture" in text and "8 of them, drawn by chance" in text
    text = " ".join(sure(evidence(harm=[YES, NONE, NONE]), OVERALL, good, None))
    assert text.startswith("Most is settled, for text like this: 0 of 3")
    failed = [{"skipped": "", "n": 8, "agrees": False}]
    text = " ".join(sure(evidence(harm=[YES]), OVERALL, failed, "Verification failed."))
    assert text.startswith("Verification failed.") and "were checked" not in text


def test_what_was_done_defines_both_outcomes():
    text = " ".join(done(OVERALL, 8, "tiny", ZERO))
    assert "Removing one active expert of tiny for one token, 1,000 times, in 8 layers" in text
    assert "Harm is how much worse" in text and "disturbance is how far" in text


def test_a_term_is_explained_once_and_where_it_first_stands():
    explained = Explained()
    first = explained("Harm of <b>experts</b>, harm in nats; d_z")
    assert first.count('class="term"') == 4 and "<b>experts" not in first
    assert first.index(">Harm<") < first.index(TERMS["harm"][1].split(":")[0])
    assert "<i>d</i><sub>z</sub>" in first and 'id="term-d-z"' in first
    again_ = explained("harm and a contrast")
    assert again_.count('class="term"') == 1 and 'aria-describedby="term-contrast"' in again_
    assert [str(term) for term, _ in explained.list()][0] == "contrast"
    assert "Harmless" in explained("Harmless") and "term" not in explained("Harmless")


def test_the_page_explains_its_terms_and_lists_them(shown):
    answer = re.search(r'<section id="answer".*?</section>', shown, re.DOTALL)
    assert answer
    ids = re.findall(r'role="tooltip" id="([\w-]+)"', answer[0])
    assert len(ids) == len(set(ids)) >= 8
    listed = re.search(r'<details class="terms">.*?</details>', answer[0], re.DOTALL)
    assert listed and listed[0].count("<dt>") == len(ids)
    order = [
        answer[0].index(x)
        for x in ('class="headline"', 'class="lead"', "How sure", "<nav", "In numbers")
    ]
    assert order == sorted(order)


def test_the_first_screen_of_little_text_claims_nothing(run):
    found = read(run.tests)
    text = " ".join([*dropping(found, None), *reading(found, ZERO)])
    undecided = sum(found.undecided(o) for o in found.outcomes)
    assert 2 * undecided > sum(found.count(o) for o in found.outcomes)
    for claim in ("better than chance", "by more than", "In 2"):
        assert claim not in text


def test_the_command_asks_the_runs_own_question(run, monkeypatch):
    monkeypatch.setattr(run, "spec", replace(run.spec, text="bundled", shift="", seed=3))
    told = again(run)
    parts = shlex.split(told["command"])
    assert parts[:3] == ["moeaudit", "audit", run.spec.model]
    assert parts[parts.index("--documents") + 1] == str(run.spec.effect_documents)
    assert parts[parts.index("--max-length") + 1] == str(run.spec.max_length)
    call = ast.parse(told["python"]).body[1].value  # type: ignore[attr-defined]
    named = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    assert named["documents"] == run.spec.effect_documents and call.func.attr == "audit"
    assert named["shift"] is False and "--no-shift" in parts
    assert named["seed"] == 3 and parts[parts.index("--seed") + 1] == "3"


def test_text_that_was_given_in_python_is_said_to_be_missing(run, shown):
    told = again(run)
    assert told["command"] == "" and "not in the run folder" in told["note"]
    assert told["note"] in unescape(shown)


def test_a_question_without_a_word_says_so(run, monkeypatch):
    custom = dict(run.spec.question.to_dict()) | {"operator": {"operator": "Custom", "name": "x"}}
    from moeaudit.store.question import Question

    monkeypatch.setattr(run, "spec", replace(run.spec, question=Question.from_dict(custom)))
    told = again(run)
    assert told["command"] == "" and "no word on the command line" in told["note"]


def test_median_there_needs_a_number():
    cells = pd.DataFrame(
        {"question": ACROSS, "outcome": "delta_nll", "estimate": [0.6], "there": [np.nan]}
    )
    assert "Other domains were not run." in dropping(evidence(ranks=[YES]), cells)
