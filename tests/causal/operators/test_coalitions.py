"""Interactions, redundancy and Shapley values against sums written out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError

DOCUMENTS = [tiny_moe.ids(9, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def every_set():
    model = tiny_moe.load("olmoe")
    return pd.DataFrame(ma.ablate(model, DOCUMENTS, ma.Coalitions()))


def game(value, top_k, tokens=1):
    """A table of coalitions with `value(token, members)` as delta NLL; one document a token."""
    rows = [
        (token, 0, 0, min(members), min(members), 0.1, sum(1 << r for r in members))
        for token in range(tokens)
        for size in range(1, top_k + 1)
        for members in itertools.combinations(range(top_k), size)
    ]
    names = ["document", "position", "layer", "rank", "expert", "weight", "members"]
    table = pd.DataFrame(rows, columns=names)
    sets = [[r for r in range(top_k) if m >> r & 1] for m in table.members]
    table["delta_nll"] = [value(t, set(s)) for t, s in zip(table.document, sets)]
    return table


def by_orders(value, top_k):
    """Shapley values by their other definition: marginal effects averaged over all orders."""
    total = np.zeros(top_k)
    orders = list(itertools.permutations(range(top_k)))
    for order in orders:
        for place, expert in enumerate(order):
            before = set(order[:place])
            total[expert] += value(0, before | {expert}) - (value(0, before) if before else 0.0)
    return total / len(orders)


def test_shapley_values_of_a_game_are_the_mean_over_all_orders():
    drawn = np.random.default_rng(0).normal(size=1 << 4)

    def value(token, members):
        return float(drawn[sum(1 << r for r in members)])

    found = ma.shapley(game(value, 4))
    np.testing.assert_allclose(found.shapley, by_orders(value, 4), atol=1e-12)
    assert (found.se == 0).all() and (found.orders == 0).all()


def test_shapley_values_sum_to_the_joint_effect(every_set):
    found = ma.shapley(every_set)
    tokens = found.groupby(["document", "position", "layer"])
    np.testing.assert_allclose(tokens.shapley.sum(), tokens.joint.first(), atol=1e-12)
    assert found.joint.abs().max() > 0.1
    assert len(found) == 4 * 8 * 3 * 3
    whole = every_set[every_set.members == 0b111]
    np.testing.assert_allclose(tokens.joint.first(), whole.delta_nll.to_numpy(), atol=0)


def test_random_orders_telescope_and_agree_with_all_sets(every_set):
    model = tiny_moe.load("olmoe")
    operator = ma.Permutations(24, seed=2)
    effects = ma.ablate(model, DOCUMENTS, operator)
    assert len(effects) == 4 * 8 * 3 * (24 * 2 + 1)
    found, exact = ma.shapley(effects), ma.shapley(every_set)
    tokens = found.groupby(["document", "position", "layer"])
    np.testing.assert_allclose(tokens.shapley.sum(), tokens.joint.first(), atol=1e-9)
    z = (found.shapley - exact.shapley) / found.se
    assert (found.orders == 24).all() and 0.5 < z.std() < 1.6 and abs(z.mean()) < 0.4
    assert (found.shapley - exact.shapley).abs().max() > 1e-4  # sampled, not exact
    for engine in ("hooks", "transformer_lens"):
        assert ma.verify(effects, model, n=4, engine=engine, operator=operator).agrees


def test_orders_are_nested_differ_by_token_and_do_not_depend_on_batching(monkeypatch):
    model = tiny_moe.load("olmoe")
    operator = ma.Permutations(3, seed=5)
    whole = ma.ablate(model, DOCUMENTS[:1], operator)
    budgets.use(monkeypatch, residuals=1)
    pieces = ma.ablate(model, DOCUMENTS[:1], operator)
    assert (whole.members.to_numpy() == pieces.members.to_numpy()).all()
    other = ma.ablate(model, DOCUMENTS[:1], ma.Permutations(3, seed=6))
    assert (whole.members.to_numpy() != other.members.to_numpy()).any()
    orders = whole[whole.permutation >= 0]
    assert set(whole.members[whole.permutation == -1]) == {0b111}
    seen = set()
    for _, one in orders.groupby(["position", "layer", "permutation"]):
        first, second = one.members
        assert first & second == first and second != first
        assert [1 << r for r in one["rank"]] == [first, first ^ second]
        seen.add((first, second))
    assert len(seen) == 6  # every order of three occurs


def test_first_removals_are_uniform():
    model = tiny_moe.load("deepseek_v2")
    effects = ma.ablate(model, [tiny_moe.ids(30, s) for s in range(2)], ma.Permutations(8))
    first = effects.members[effects.members.isin([1, 2, 4])]
    shares = first.value_counts(normalize=True)
    assert len(first) == 2 * 29 * 2 * 8
    np.testing.assert_allclose(shares, 1 / 3, atol=4 * np.sqrt(2 / 9 / len(first)))


def test_interactions_are_joint_minus_the_singles(every_set):
    found = ma.interactions(every_set)
    assert len(found) == 4 * 8 * 3 * 3
    row = found.iloc[17]
    mine = every_set[
        (every_set.document == row.document)
        & (every_set.position == row.position)
        & (every_set.layer == row.layer)
    ].set_index("members")
    a, b = 1 << int(row["rank"]), 1 << int(row.rank_other)
    want = mine.delta_nll[a | b] - mine.delta_nll[a] - mine.delta_nll[b]
    assert row.interaction == pytest.approx(want, abs=1e-7) and abs(want) > 1e-5
    assert (row.expert, row.expert_other) == (mine.expert[a], mine.expert[b])
    additive = ma.interactions(game(lambda _, s: float(sum(s)) + len(s), 3))
    np.testing.assert_allclose(additive.interaction, 0.0, atol=1e-12)


def test_redundancy_of_known_games():
    both = ma.redundancy(
        game(lambda t, s: (1 + t) * 1.0, 2, tokens=6), n_boot=199
    )  # any one will do
    row = both.iloc[0]
    assert (row.redundancy, row.low, row.high) == pytest.approx((0.5, 0.5, 0.5))
    assert row.estimable and row.documents == row.tokens == 6
    apart = ma.redundancy(game(lambda t, s: 0.5 * len(s), 3, tokens=6), n_boot=199).iloc[0]
    assert apart.redundancy == pytest.approx(0.0, abs=1e-12)
    backup = ma.redundancy(game(lambda t, s: 1.0 if len(s) == 3 else 0.1, 3, tokens=6), n_boot=199)
    assert backup.redundancy.iloc[0] == pytest.approx(1 - 1.0 / 0.3)


def test_redundancy_is_not_given_where_the_sum_is_near_zero():
    found = ma.redundancy(game(lambda t, s: (-1.0) ** t * len(s), 2, tokens=8), n_boot=399)
    row = found.iloc[0]
    assert not row.estimable and np.isnan([row.redundancy, row.low, row.high]).all()
    assert row.sum_not_positive == 4


def test_redundancy_of_a_model_is_a_ratio_of_means(every_set):
    found = ma.redundancy(every_set, "kl", n_boot=299).set_index("layer")
    here = every_set[every_set.layer == 1]
    single = here[here.members.isin([1, 2, 4])].kl.sum()
    joint = here[here.members == 7].kl.sum()
    assert found.redundancy[1] == pytest.approx(1 - joint / single, abs=1e-6)
    assert found.low[1] < found.redundancy[1] < found.high[1]
    again = ma.redundancy(every_set, "kl", n_boot=299).set_index("layer")
    pd.testing.assert_frame_equal(found, again)
    assert ma.redundancy(every_set, "kl", n_boot=299, seed=1).low.iloc[1] != found.low[1]


def test_tables_that_lack_sets_are_refused(every_set):
    model = tiny_moe.load("olmoe")
    with pytest.raises(InputError, match="'members' is missing"):
        ma.interactions(ma.ablate(model, DOCUMENTS[:1]))
    pairs = every_set[np.isin(every_set.members, [1, 2, 4, 3, 5, 6])]
    with pytest.raises(InputError, match=r"shapley\(\) needs sets"):
        ma.shapley(pairs)
    with pytest.raises(InputError, match=r"redundancy\(\) needs sets"):
        ma.redundancy(pairs)
    with pytest.raises(InputError, match="32 of 32 tokens of layer 0"):
        ma.interactions(every_set[every_set.members != 3])
    with pytest.raises(InputError, match="no column 'nll'"):
        ma.interactions(every_set, "nll")
    with pytest.raises(InputError, match="at least 2 documents"):
        ma.redundancy(every_set[every_set.document == 0])
    with pytest.raises(InputError, match="at least 2 random orders"):
        ma.Permutations(1)
    effects = pd.DataFrame(ma.ablate(model, DOCUMENTS[:1], ma.Permutations(3)))
    with pytest.raises(InputError, match="every step of every order"):
        ma.shapley(effects.drop(index=effects.index[5]))
