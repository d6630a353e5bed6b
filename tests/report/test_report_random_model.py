"""A model that learned nothing, on little text: the first sentence claims nothing for it."""

from __future__ import annotations

import pytest
from made import tiny_run

from moeaudit.front import Run
from moeaudit.report import render
from moeaudit.report.words.answer import answer
from moeaudit.report.words.evidence import read
from moeaudit.report.words.summary import overall


@pytest.fixture(scope="module", params=["0.01nats", "0.0005nats"])
def audited(request, tmp_path_factory) -> Run:
    import moeaudit as ma

    model = tiny_run.save(tmp_path_factory.mktemp("random"))
    return ma.audit(
        str(model),
        out=tmp_path_factory.mktemp("audit") / "run",
        documents=8,
        tokens=24,
        sesoi=request.param,
        verify_rows=1,
        verify_engines=("hooks",),
    )


def test_eight_documents_of_a_random_model_get_no_positive_headline(audited):
    evidence = read(audited.tests)
    first = answer(evidence, overall(audited.shards), "random").headline
    for claim in ("metrics predict", "metrics know something", "metrics tell"):
        assert claim not in first, first
    assert not any(evidence.count(o, "predictive") for o in evidence.outcomes)
    undecided = sum(evidence.undecided(o) for o in evidence.outcomes)
    if 2 * undecided > sum(evidence.count(o) for o in evidence.outcomes):
        assert first.startswith(("Too little text to say", "Too few experts to say")), first
    assert f'<p class="headline">{first}.' in render(audited)
