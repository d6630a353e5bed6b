"""Which removals a sample makes: every token has the same chance, in every stratum, whatever else there is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moeaudit.causal.operators import Everywhere, Zero
from moeaudit.causal.walk.several.sample import Sample, sample_for, share_of
from moeaudit.errors import InputError


@pytest.fixture
def experts():
    """The active experts of 60 tokens, top-3 of 8; expert 7 is seldom used."""
    rng = np.random.default_rng(0)
    chance = np.array([4, 4, 4, 3, 3, 2, 2, 0.3])
    return np.stack([rng.choice(8, 3, replace=False, p=chance / chance.sum()) for _ in range(60)])


def test_every_token_is_drawn_with_the_probability_that_is_asked_for(experts):
    taken = np.array([Sample(0.3, seed).drawn(experts, 2, 11) for seed in range(3000)])
    assert taken.mean(0) == pytest.approx(0.3, abs=0.035)  # 4 standard errors
    assert set(taken.sum(1)) == {18}


@pytest.mark.parametrize(("share", "few", "many"), [(0.05, 3, 3), (0.33, 19, 20), (0.999, 59, 60)])
def test_a_document_gives_its_share_up_to_one_token(experts, share, few, many):
    counts = {int(Sample(share, seed).drawn(experts, 0, 1).sum()) for seed in range(200)}
    assert counts <= {few, many}
    assert max(counts) <= Sample(share).most(60)


def test_every_stratum_gives_its_share_up_to_one_token(experts):
    use = np.bincount(experts.ravel())[experts]
    least = np.where(use == use.min(1, keepdims=True), experts, 99).min(1)
    for seed in range(100):
        taken = Sample(0.25, seed).drawn(experts, 0, 1)
        for expert in np.unique(least):
            size = int((least == expert).sum())
            drawn = int(taken[least == expert].sum())
            assert math.floor(0.25 * size) <= drawn + 1 and drawn <= math.ceil(0.25 * size) + 1


def test_seldom_used_experts_are_met_more_evenly_than_by_chance_alone(experts):
    has = (experts == 7).any(1)
    stratified = [Sample(0.25, seed).drawn(experts, 0, 1)[has].sum() for seed in range(400)]
    rng = np.random.default_rng(1)
    simple = [has[rng.permutation(60)[:15]].sum() for _ in range(400)]
    assert np.var(stratified) < 0.6 * np.var(simple)
    assert np.mean(stratified) == pytest.approx(0.25 * has.sum(), rel=0.1)


def test_the_draw_is_of_the_seed_the_layer_and_the_document(experts):
    one = Sample(0.3, 5).drawn(experts, 1, 7)
    assert (one == Sample(0.3, 5).drawn(experts, 1, 7)).all()
    for other in (
        Sample(0.3, 6).drawn(experts, 1, 7),
        Sample(0.3, 5).drawn(experts, 2, 7),
        Sample(0.3, 5).drawn(experts, 1, 8),
    ):
        assert (one != other).any()


def test_the_order_of_slots_does_not_matter(experts):
    turned = experts[:, ::-1]
    assert (Sample(0.3).drawn(experts, 1, 7) == Sample(0.3).drawn(turned, 1, 7)).all()


@pytest.mark.parametrize(
    "share", [0, -0.1, 1.01, float("nan"), float("inf"), "0.5", None, True, []]
)
def test_what_is_no_share_is_refused_in_one_paragraph(share):
    with pytest.raises(InputError, match="above 0 and up to 1") as error:
        share_of(share)
    assert "\n" not in str(error.value) and repr(share) in str(error.value)


def test_one_is_the_census_and_whole_documents_have_no_sample():
    assert sample_for(Zero(), 1) is None and sample_for(Everywhere(Zero()), 1.0) is None
    assert sample_for(Zero(), np.float32(0.5)) == Sample(0.5)
    with pytest.raises(InputError, match="saves nothing"):
        sample_for(Everywhere(Zero()), 0.5)
    with pytest.raises(InputError, match="seed = 'x'"):
        sample_for(Zero(), 0.5, "x")  # pyright: ignore
