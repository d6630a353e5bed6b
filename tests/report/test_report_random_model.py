"""A model that learned nothing, on little text: the first sentence claims nothing for it."""

from __future__ import annotations

import re
from html import unescape

import pytest
from made import tiny_run

from moeaudit.front import Run
from moeaudit.report import render
from moeaudit.report.words.evidence import Evidence, read
from moeaudit.report.words.headline import headline
from moeaudit.report.words.operator import ZERO
from moeaudit.stats import verdicts_at


@pytest.fixture(scope="module")
def audited(tmp_path_factory) -> Run:
    import moeaudit as ma

    model = tiny_run.save(tmp_path_factory.mktemp("random"))
    docs = ma.corpus("bundled", split="test").sample(2, seed=0, per_domain=True)
    return ma.audit(
        str(model),
        docs,
        out=tmp_path_factory.mktemp("audit") / "run",
        documents=8,
        tokens=24,
        verify_rows=1,
        verify_engines=("hooks",),
    )


def under(tests, sesoi) -> Evidence:
    """The run's evidence as if another smallest effect of interest had been declared."""
    rows, whole = verdicts_at(tests, sesoi), tests.copy()
    for name in ("verdict", "verdict_these_experts", "sesoi"):
        whole.loc[rows.index, name] = rows[name]
    return read(whole)


def words_of_headline(page: str) -> str:
    """As a reader has it: without the explanations of its terms, which show when asked for."""
    marked = re.search(r'<p class="headline">(.*?)</p>', page, re.DOTALL)
    assert marked
    return unescape(re.sub(r"<[^>]+>", "", re.sub(r'<span class="gloss".*?</span>', "", marked[1])))


def claims_nothing(evidence: Evidence) -> None:
    first = headline(evidence, ZERO)
    for claim in ("metrics predict", "metrics know something", "shown to say something"):
        assert claim not in first, first
    assert not any(evidence.count(o, "predictive") for o in evidence.outcomes)
    undecided = sum(evidence.undecided(o) for o in evidence.outcomes)
    if 2 * undecided > sum(evidence.count(o) for o in evidence.outcomes):
        assert first.startswith(("Too little text to say", "Too few experts to say")), first


def test_eight_documents_of_a_random_model_get_no_positive_headline(audited):
    assert audited.record["summary"]["documents"] == 8
    evidence = read(audited.tests)
    claims_nothing(evidence)
    page = render(audited)
    assert words_of_headline(page) == f"{headline(evidence, ZERO)}."
    first = re.search(r'<div class="follows">.*?</nav>', page, re.DOTALL)
    assert first
    for claim in ("better than chance", "by more than", "is shown"):
        assert claim not in first[0], claim
    assert "Do not choose by a metric" in first[0] or "not shown to beat" in first[0]
    assert "Caution: only 8 documents" in first[0]


@pytest.mark.parametrize("sesoi", [0.02, 0.1, "0.00001nats"])
def test_nor_under_another_bound(audited, sesoi):
    claims_nothing(under(audited.tests, sesoi))


def test_where_no_size_is_too_small_to_care_for_there_is_too_little_to_say(audited):
    """Next to nothing can then be called small, so what is left is that nothing was shown."""
    first = headline(under(audited.tests, "0.0000001nats"), ZERO)
    assert first.startswith(("Too little text to say", "Too few experts to say")), first
