"""Differences of two runs' means: limits by document, verdicts, and which experts are the same."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.errors import InputError
from moeaudit.stats.difference.agreement import agreement
from moeaudit.stats.difference.columns import Sums, difference_of_columns, pooled
from moeaudit.stats.difference.correspondence import correspondence
from moeaudit.stats.difference.verdicts import (
    A_MORE,
    ALIKE,
    B_MORE,
    SAME,
    SHOWN,
    TOO_FEW,
    judged,
)
from moeaudit.stats.sizes.limits import jackknife_se, means_of_columns


def made(rng, documents=40, cells=1, *, effect=0.0, shared=None, noise=1.0) -> Sums:
    """Sums of 5 to 15 rows a document; `shared` is what both sides have of a document."""
    count = rng.integers(5, 16, (documents, cells)).astype(float)
    own = 0.0 if shared is None else shared
    mean = effect + own + noise * rng.standard_t(5, (documents, cells))
    return Sums(mean * count, count)


def apart(a: Sums, b: Sums) -> tuple[Sums, Sums]:
    """The same sides, each with documents of its own."""
    none = [np.zeros_like(side.total) for side in (b, a)]
    return (
        Sums(np.concatenate([a.total, none[0]]), np.concatenate([a.count, none[0]])),
        Sums(np.concatenate([none[1], b.total]), np.concatenate([none[1], b.count])),
    )


def test_the_difference_is_that_of_the_means_and_its_scores_add_up_to_it():
    rng = np.random.default_rng(0)
    a, b = made(rng, cells=3), made(rng, cells=3)
    found = difference_of_columns(a, b)
    np.testing.assert_allclose(found.value, a.total.sum(0) / a.count.sum(0) - b.mean)
    np.testing.assert_allclose(found.scores.sum(0), found.value)
    assert found.paired and (found.low < found.value).all() and (found.value < found.high).all()


def test_of_equal_counts_it_is_the_mean_of_the_documents_differences():
    rng = np.random.default_rng(1)
    count = np.full((30, 1), 7.0)
    a, b = (Sums(rng.normal(size=(30, 1)), count) for _ in range(2))
    found = difference_of_columns(a, b)
    mean, low, high = means_of_columns(a.total - b.total, count, 0.95)
    np.testing.assert_allclose([found.value, found.low, found.high], [mean, low, high])


def test_separate_documents_add_their_variances():
    rng = np.random.default_rng(2)
    a, b = made(rng, 20), made(rng, 33, noise=2.0)
    both = difference_of_columns(*apart(a, b))
    assert not both.paired
    se = [jackknife_se(side.left[:, 0]) for side in (a, b)]
    np.testing.assert_allclose(jackknife_se(both.left[:, 0]), np.hypot(*se), rtol=1e-3)


def test_what_documents_share_is_taken_off_where_they_are_paired():
    rng = np.random.default_rng(3)
    shared = 3 * rng.normal(size=(40, 1))
    a, b = made(rng, shared=shared, noise=0.3), made(rng, shared=shared, noise=0.3)
    paired, alone = difference_of_columns(a, b), difference_of_columns(*apart(a, b))
    assert (paired.high - paired.low)[0] < 0.6 * (alone.high - alone.low)[0]


@pytest.mark.parametrize("paired", [True, False])
def test_limits_hold_the_difference_as_often_as_they_say(paired):
    rng = np.random.default_rng(4)
    shared = rng.normal(size=(30, 1500))
    a, b = made(rng, 30, 1500, effect=0.5, shared=shared), made(rng, 30, 1500, shared=shared)
    if not paired:
        b = made(rng, 30, 1500, shared=rng.normal(size=(30, 1500)))
        a, b = apart(a, b)
    found = difference_of_columns(a, b)
    held = ((found.low < 0.5) & (found.high > 0.5)).mean()
    assert 0.93 < held < 0.975


def test_the_same_sums_differ_by_exactly_zero_and_claim_nothing():
    side = made(np.random.default_rng(5), cells=4)
    found = difference_of_columns(side, Sums(side.total.copy(), side.count.copy()))
    assert (found.value == 0.0).all() and np.isnan(found.low).all()
    said = judged([found], bound=0.01)[0]
    assert said.verdict == [SAME] * 4 and np.isnan(said.p).all()


@pytest.mark.parametrize("paired", [True, False])
def test_where_nothing_differs_a_family_claims_something_in_about_alpha_of_all(paired):
    rng, claimed, families = np.random.default_rng(6), 0, 150
    for _ in range(families):
        shared = rng.standard_t(4, (25, 4)) * rng.lognormal(0, 0.5, (25, 1))
        a, b = made(rng, 25, 4, shared=shared), made(rng, 25, 4, shared=shared)
        if not paired:
            a, b = apart(a, b)
        said = judged([difference_of_columns(a, b)], bound=None, n_flips=399)[0]
        claimed += any(verdict in SHOWN for verdict in said.verdict)
    assert claimed / families <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / families)


def test_sizes_are_judged_against_the_bound():
    rng = np.random.default_rng(17)
    shared = rng.normal(size=(60, 3))
    b = made(rng, 60, 3, shared=shared, noise=0.1)
    a = made(rng, 60, 3, shared=shared, noise=0.1)
    a = Sums(a.total + np.array([1.0, -1.0, 0.0]) * a.count, a.count)
    said = judged([difference_of_columns(a, b)], bound=0.5)[0]
    assert said.verdict == [A_MORE, B_MORE, ALIKE]
    unjudged = judged([difference_of_columns(a, b)], bound=None)[0]
    assert unjudged.verdict[:2] == [A_MORE, B_MORE] and unjudged.verdict[2] not in SHOWN


def test_few_documents_get_no_verdict_and_say_why():
    rng = np.random.default_rng(8)
    a, b = made(rng, 8, effect=50.0), made(rng, 8)
    said = judged([difference_of_columns(a, b)], bound=0.01)[0]
    assert said.verdict == [TOO_FEW] and "8 documents" in str(said.too_few[0])


def test_a_cell_of_one_document_has_no_limits():
    a, b = (Sums(np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])) for _ in range(2))
    found = difference_of_columns(Sums(2 * a.total, a.count), b)
    assert found.value[0] == 1.0 and np.isnan(found.low[0])


def test_sides_of_other_shapes_and_numbers_that_are_none_are_refused():
    rng = np.random.default_rng(9)
    with pytest.raises(InputError, match="same cells"):
        difference_of_columns(made(rng, 10), made(rng, 11))
    broken = made(rng, 10)
    broken.total[3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        difference_of_columns(broken, made(rng, 10))


def test_cells_are_pooled_into_places():
    side = made(np.random.default_rng(10), cells=4)
    two = pooled(side, np.array([0, 1, 1, 0]), 2)
    np.testing.assert_allclose(two.total[:, 1], side.total[:, 1] + side.total[:, 2])
    np.testing.assert_allclose(two.count.sum(1), side.count.sum(1))


def test_orders_that_agree_are_told_from_orders_that_do_not():
    rng = np.random.default_rng(11)
    own = rng.normal(size=(1, 20))
    a, b, other = (made(rng, 40, 20, shared=s) for s in (own, own, rng.normal(size=(1, 20))))
    alike, unlike = agreement(a, b), agreement(a, other)
    assert alike.rho > 0.7 and alike.low > 0.3 and alike.low < alike.rho < alike.high
    assert abs(alike.apart - alike.halves) < 0.2  # as much as halves of one run do
    assert unlike.low < 0 < unlike.high and unlike.apart < alike.apart - 0.4
    same = agreement(a, a)
    assert same.rho == pytest.approx(1) and np.isnan(same.low) and same.reason
    few = agreement(made(rng, 8, 20), made(rng, 8, 20))
    assert np.isnan(few.rho) and "10 documents" in str(few.reason)


def test_numbers_of_experts_mean_something_only_where_routing_says_so():
    rng = np.random.default_rng(12)
    tokens, experts, k = 400, 16, 2
    taste = rng.normal(size=(tokens, experts))

    def chosen(logits):
        there = np.zeros_like(logits)
        np.put_along_axis(there, np.argsort(-logits, axis=1)[:, :k], 1.0, axis=1)
        return there

    one = chosen(taste)
    later = chosen(taste + 0.5 * rng.normal(size=taste.shape))
    renamed = later[:, rng.permutation(experts)]
    active = {0: float(one.sum())}
    same = correspondence({0: one.T @ later}, active)
    assert same.p == 0.001 and same.shared > 0.5 and same.shuffled < 0.25
    assert correspondence({0: one.T @ renamed}, active).p > 0.01
    assert correspondence({0: one.T @ one}, active).shared == 1.0
