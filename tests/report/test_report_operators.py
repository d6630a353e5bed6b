"""The page speaks of the operator that was used: words for each, and nothing said of another."""

from __future__ import annotations

import pandas as pd
import pytest

from moeaudit.report.words.answer import answer
from moeaudit.report.words.evidence import Evidence, outcome_words, read
from moeaudit.report.words.operator import words_of
from moeaudit.store.question import Question

HELD = {"documents": 24, "sha256": "0" * 64}
ZERO = {"operator": "Zero"}
# the operator as it is written down: what the page must say of it
SAID = {
    "zero": (ZERO, "its gate weight becomes zero, the other experts keep theirs"),
    "renormalize to one": (
        {"operator": "Renormalize", "to": "one"},
        "so that the weights sum to one",
    ),
    "renormalize to sum": ({"operator": "Renormalize", "to": "sum"}, "keep their old sum"),
    "reroute": (
        {"operator": "Reroute", "scores": "kept"},
        "the next choice enters by the model's own",
    ),
    "swap": ({"operator": "Swap", "expert": 3}, "is replaced by expert 3, at the same weight"),
    "swap all": ({"operator": "Swap", "expert": "all"}, "every expert of the layer in turn"),
    "scale": ({"operator": "Scale", "factor": -1.0}, "is multiplied by -1; the others keep theirs"),
    "skip": (
        {"operator": "Skip", "ranks": [0, 2]},
        "from rank j on, is removed together (j = 0, 2)",
    ),
    "coalitions": ({"operator": "Coalitions", "sizes": [1, 2]}, "every set of size 1, 2"),
    "permutations": ({"operator": "Permutations", "n": 4, "seed": 1}, "in 4 random orders"),
    "mean output": (
        {"operator": "MeanOutput", "held_out": HELD},
        "its mean over 24 held-out documents",
    ),
    "resample": ({"operator": "Resample", "held_out": HELD, "seed": 7}, "(seed 7)"),
    "shared expert": ({"operator": "SharedExpert"}, "the routed experts stay"),
    "shared gate": ({"operator": "SharedGate", "value": 0.5}, "gate is set to 0.5"),
    "without": (
        {"operator": "Without", "experts": {"3": [0, 5]}, "rule": "absent", "scores": "remaining"},
        "(layer 3: 0, 5) is taken out of the model: the router cannot choose them",
    ),
    "half {x}": (
        {"operator": "Custom", "name": "half {x}", "rows": 1},
        "changed by an operator called \N{LEFT DOUBLE QUOTATION MARK}half {x}",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_every_operator_has_words_of_its_own(name):
    operator, what = SAID[name]
    words = words_of(Question(name, operator))
    assert what in words.what
    assert words.doing_to("tiny").count("tiny") == 1
    assert "{" not in words.doing_to("tiny") or name == "half {x}"
    others = {words_of(Question(n, o)).what for n, (o, _) in SAID.items() if n != name}
    assert words.what not in others


def test_everywhere_is_said_of_the_document():
    inside = {"operator": "Everywhere", "of": ZERO, "by": "expert"}
    words = words_of(Question("everywhere", inside, "document"))
    assert words.what == words_of(Question("zero", ZERO)).what
    assert words.doing_to("tiny").endswith("at every token of a document")
    assert words.times("5") == "read off 5 predictions"
    by_rank = words_of(Question("everywhere", {**inside, "by": "rank"}, "document"))
    assert (words.subject, by_rank.subject) == ("expert", "rank")


OVERALL = {
    "rows": 1000.0,
    "documents": 12.0,
    "delta_nll": 0.01,
    "delta_nll_low": 0.005,
    "delta_nll_high": 0.015,
    "harmful": 0.55,
    "flip": 0.04,
}


def test_a_run_that_could_not_be_tested_says_why_and_what_was_measured():
    reason = "the rows of 'skip the tail' are not about one active expert each"
    tests = pd.DataFrame(
        [
            {"question": q, "outcome": o, "verdict": "not tested", "reason": reason}
            for q in ("within-token contrast", "per-expert expected harm")
            for o in ("delta_nll", "kl")
        ]
    )
    evidence = read(tests)
    assert evidence.untested == {"delta_nll": reason, "kl": reason}
    said = answer(evidence, OVERALL, "tiny", words_of(Question("skip", SAID["skip"][0])))
    assert said.headline.startswith("Removing the tail of the active experts of tiny for one token")
    assert "+0.0100 [+0.0050, +0.0150] nats" in said.headline
    assert said.sentences[-1] == f"Routing metrics were not tested, because {reason}."
    assert "predict" not in said.headline
    assert "1,000 cuts" in said.thin


def test_what_an_outcome_asks_follows_the_operator():
    assert outcome_words("delta_nll", "to swap out")[1].endswith(
        "which expert costs more to swap out?"
    )
    assert outcome_words("delta_entropy")[0] == "Entropy"
    assert outcome_words("contrast_5_9") == ("contrast 5 9", "")


def test_metrics_that_have_no_value_are_named_with_the_reason():
    rows = [
        {"outcome": o, "metric": "easy_ep", "role": "metric", "layer": layer, "n": 0, "documents": 0,
         "d_z": float("nan"), "low": float("nan"), "high": float("nan"), "p_adjusted": float("nan"),
         "mde": float("nan"), "sesoi": 0.1, "verdict": "not estimable", "reason": "no residual stream"}
        for o in ("delta_nll", "kl") for layer in (0, 1, 2)
    ]  # fmt: skip
    evidence = Evidence(pd.DataFrame(rows), pd.DataFrame())
    assert evidence.reasons() == ["EASY-EP (layers 0\N{EN DASH}2), because no residual stream"]
    said = answer(evidence, OVERALL, "tiny")
    assert any(s.startswith("Not estimable: EASY-EP (layers") for s in said.sentences)
