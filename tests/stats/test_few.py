"""Too few documents to say: nice documents keep their verdict, sparse, linked and lone ones do not."""

from __future__ import annotations

import numpy as np
import pytest
from made.census import QUICK, census

from moeaudit.stats import contrast
from moeaudit.stats.few import carriers, kish, lean, participation, too_few
from moeaudit.stats.sizes.equivalence import TOO_FEW, graded


def sums_of(values, tokens):
    document = np.repeat(np.arange(len(tokens)), tokens)
    return np.bincount(document, values, len(tokens))


def told(values, tokens, **given):
    """What is said of effects by token in documents of these lengths."""
    given = {"carriers": carriers(values), "lean": lean(values)} | given
    return too_few(sums_of(values, tokens), tokens, **given)


def test_nice_documents_are_enough_from_twelve_on():
    rng = np.random.default_rng(0)
    tokens = np.full(12, 40)
    values = rng.standard_t(3, 480)
    assert told(values, tokens) is None
    why = told(values[:440], tokens[:11])
    assert why == "11 documents, and a verdict needs 12"
    assert told(values[:440], np.append(tokens[:11], 0)) == why  # an empty document is none


def test_sparse_effects_need_more_documents():
    rng = np.random.default_rng(1)
    for documents, enough in ((25, False), (50, False), (160, True)):
        n = documents * 48
        values = -np.where(rng.random(n) < 0.05, rng.lognormal(0, 0.9, n), 0.0)
        why = told(values, np.full(documents, 48))
        assert (why is None) == enough
        assert enough or "few tokens carry the effects" in why


def test_one_document_with_nearly_everything_is_few():
    rng = np.random.default_rng(2)
    values = rng.normal(size=40 * 30)
    values[:90] *= 50
    assert "few documents carry the effects" in told(values, np.full(40, 30), carriers=None)
    assert "unevenly spread" in too_few(np.ones(20), np.array([1000, *[5] * 19]))


def test_linked_effects_need_sixty_documents_worth_and_leaning_ones_twenty():
    rng = np.random.default_rng(3)
    for factor, clear in ((1, False), (2, True)):
        values = rng.normal(size=factor * 59 * 30)
        assert (told(values, np.full(factor * 59, 30), p_lengths=0.05) is None) == clear
        assert told(values, np.full(factor * 59, 30), p_lengths=0.06) is None
    few = rng.normal(size=13 * 30)
    uneven = np.array([20] * 6 + [28] * 6 + [102])  # worth fewer than 12 equal ones
    assert told(few, uneven, p_lengths=0.21) is None
    assert "length of documents" in told(few, uneven, p_lengths=0.19)
    skewed = rng.lognormal(size=19 * 60)
    assert "lean to one side" in told(skewed, np.full(19, 60))
    assert told(rng.lognormal(size=21 * 60), np.full(21, 60)) is None


def test_the_measures_by_hand():
    assert kish(np.array([1.0, 1, 2])) == pytest.approx(16 / 6)
    assert participation(np.array([-1.0, 1, 0, 0])) == 2
    assert carriers(np.array([5.0, 5, 5, 5, 7, 3])) == 2  # about the median
    assert carriers(np.empty(0)) == 0 and lean(np.empty(0)) == 0 and lean(np.ones(4)) == 0
    x = np.random.default_rng(0).lognormal(size=400_000)
    assert lean(x) == pytest.approx((np.exp(0.5) - 1) / np.sqrt((np.e - 1) * np.e), abs=0.01)


def test_too_few_goes_before_every_verdict_but_not_before_a_missing_number():
    size = {"bound": 0.1, "alpha": 0.05}
    assert graded(0.001, 0.9, 0.5, 0.4, 0.6, few=True, **size) == (TOO_FEW, None)
    assert graded(0.9, 0.001, 0.0, -0.01, 0.01, few=True, **size) == (TOO_FEW, None)
    assert graded(np.nan, np.nan, np.nan, np.nan, np.nan, few=True, **size)[0] == "not estimable"


def test_a_table_says_it_and_why_and_the_published_recipe_does_not():
    effects, metrics = census(documents=8, tokens=60, slope=1.0)
    table = contrast(effects, metrics, controls=("random",), **QUICK)
    assert (table["verdict"] == TOO_FEW).all() and table["supports"].isna().all()
    assert (table["verdict_these_experts"] == TOO_FEW).all()
    assert set(table["too_few"]) == {"8 documents, and a verdict needs 12"}
    assert table["p_maxt"].notna().all() and table["reason"].isna().all()
    kept = contrast(effects, metrics, controls=("random",), withhold=False, **QUICK)
    assert TOO_FEW not in set(kept["verdict"]) and kept["too_few"].isna().all()
    assert (kept["p_maxt"] == table["p_maxt"]).all()
