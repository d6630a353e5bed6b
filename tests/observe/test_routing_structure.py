"""Vocabulary specialisation, co-activation, load balance and router saturation."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from made import routing_tables as tables

from moeaudit.errors import InputError
from moeaudit.observe import (
    Trace,
    coactivation,
    expert_metrics,
    favourite_tokens,
    load_balance,
    router_saturation,
    vocabulary_specialisation,
)


def one_layer(choices, documents=None, tokens=None, targets=None, weights=None, experts=4):
    """A trace of one layer from its choices, one tuple of experts per token."""
    count = len(choices)
    documents = documents or [0] * count
    positions = [documents[:n].count(documents[n]) for n in range(count)]
    rows = [
        (d, f"domain {d % 2}", p, t, u)
        for d, p, t, u in zip(documents, positions, tokens or [1] * count, targets or [1] * count)
    ]
    routing = [
        (d, p, 0, rank, expert, (weights or [[0.5] * len(chosen)] * count)[n][rank], 1.0, 0.1)
        for n, (d, p, chosen) in enumerate(zip(documents, positions, choices))
        for rank, expert in enumerate(chosen)
    ]
    return tables.trace_of(rows, routing, experts)


# -- vocabulary ----------------------------------------------------------------------------------


def test_vocabulary_by_hand():
    # by_hand: top-ranked experts are 0 (id 5), 1 (id 6), 2 (id 5), 0 (id 5).
    table = vocabulary_specialisation(tables.by_hand())
    assert table["value"].tolist() == pytest.approx([(2 / 3 + 1) / 2])
    assert table["ids"].tolist() == [2] and table["chance"].tolist() == [0.5]
    # Next ids are 6, 5, 5, 7: id 5 is split between experts 1 and 2.
    assert vocabulary_specialisation(tables.by_hand(), "target")["value"][0] == pytest.approx(
        (1 + 0.5 + 1) / 3
    )
    often = vocabulary_specialisation(tables.by_hand(), min_count=2)
    assert often["value"].tolist() == pytest.approx([2 / 3]) and often["ids"].tolist() == [1]


def test_vocabulary_agrees_with_counters():
    trace = tables.random_trace(seed=2)
    rows = trace.routing.query("rank == 0").merge(trace.tokens, on=["document", "position"])
    table = vocabulary_specialisation(trace).set_index("layer")["value"]
    for layer, mine in rows.groupby("layer"):
        shares = [
            max(Counter(group["expert"]).values()) / len(group)
            for _, group in mine.groupby("token")
        ]
        assert table[layer] == pytest.approx(np.mean(shares))


def test_favourite_tokens_and_the_expert_metric():
    choices = [(0,)] * 10 + [(1,)] * 2 + [(0,)] * 6 + [(2,)] * 6 + [(3,)] * 3
    ids = [7] * 12 + [8] * 12 + [9] * 3
    trace = one_layer(choices, tokens=ids)
    table = favourite_tokens(trace)
    assert table["id"].tolist() == [7, 8]  # id 9 occurs three times only
    assert table["expert"].tolist() == [0, 0]  # a tie goes to the lower index
    assert table["share"].tolist() == pytest.approx([10 / 12, 0.5])
    assert table["n"].tolist() == [12, 12]
    values = expert_metrics(trace, ["vocabulary_specialisation"])["value"]
    np.testing.assert_allclose(values, [(10 / 12 + 0.5) / 2, np.nan, np.nan, np.nan])


def test_vocabulary_refuses_what_it_cannot_say():
    with pytest.raises(InputError, match="'output'"):
        vocabulary_specialisation(tables.by_hand(), "output")
    with pytest.raises(InputError, match="occurs 9 times"):
        vocabulary_specialisation(tables.by_hand(), min_count=9)


# -- co-activation -------------------------------------------------------------------------------


def test_all_pairs_count_not_only_neighbours_in_rank():
    table = coactivation(one_layer([(0, 1, 2), (2, 0, 3), (1, 3, 0)]))
    assert len(table) == 4 * 3
    pairs = table.set_index(["expert", "other"])
    assert pairs.loc[(0, 1), "n"] == 2  # once as neighbours, once with another between them
    assert pairs.loc[(0, 2), "n"] == 2 and pairs.loc[(1, 2), "n"] == 1
    assert pairs.loc[(2, 0), "given"] == 1.0 and pairs.loc[(0, 2), "given"] == pytest.approx(2 / 3)
    assert pairs.loc[(0, 1), "lift"] == pytest.approx((2 / 3) / (2 / 3))
    assert pairs.loc[(1, 2), "lift"] == pytest.approx((1 / 2) / (2 / 3))


def test_coactivation_agrees_with_sets():
    trace = tables.random_trace(seed=4)
    table = coactivation(trace, layer=3).set_index(["expert", "other"])
    rows = trace.routing.query("layer == 3")
    sets = [set(group["expert"]) for _, group in rows.groupby(["document", "position"])]
    for i in range(7):
        for j in range(7):
            if i != j:
                both = sum(i in s and j in s for s in sets)
                assert table.loc[(i, j), "n"] == both
                alone = sum(i in s for s in sets)
                expected = both / alone if alone else math.nan
                assert table.loc[(i, j), "given"] == pytest.approx(expected, nan_ok=True)


def test_an_expert_never_chosen_has_no_conditional():
    table = coactivation(one_layer([(0, 1), (1, 0)])).set_index(["expert", "other"])
    assert math.isnan(table.loc[(3, 0), "given"]) and math.isnan(table.loc[(0, 3), "lift"])
    assert table.loc[(0, 3), "given"] == 0.0


# -- load balance --------------------------------------------------------------------------------


def test_two_disjoint_documents_are_unbalanced_by_sequence_only():
    # Experts {0, 1} in one document and {2, 3} in the other: 2.0 by sequence, 1.0 globally.
    choices = [(0, 1), (1, 0)] * 3 + [(2, 3), (3, 2)] * 3
    table = load_balance(one_layer(choices, documents=[0] * 6 + [1] * 6))
    assert table["sequence"].tolist() == pytest.approx([2.0])
    assert table["global"].tolist() == pytest.approx([1.0])
    assert table["separation"].tolist() == pytest.approx([2.0])
    assert table["effective"].tolist() == pytest.approx([4.0])
    assert table["cv"].tolist() == pytest.approx([0.0]) and table["never"].tolist() == [0]


def test_one_expert_takes_everything():
    table = load_balance(one_layer([(2,)] * 5, weights=[[0.3]] * 5))
    assert table["global"].tolist() == pytest.approx([4.0])
    assert table["busiest"].tolist() == [1.0] and table["never"].tolist() == [3]
    assert table["effective"].tolist() == pytest.approx([1.0])


def test_balance_by_hand_with_uneven_weights():
    # f = (1/2, 1/4, 1/4, 0); P = ((.75 + .5) / 2, .25 / 2, .5 / 2, 0).
    table = load_balance(one_layer([(0, 1), (2, 0)], weights=[[0.6, 0.2], [0.3, 0.3]]))
    expected = 4 * (0.5 * 0.625 + 0.25 * 0.125 + 0.25 * 0.25)
    assert table["global"].tolist() == pytest.approx([expected])


# -- saturation ----------------------------------------------------------------------------------


def test_saturation_by_hand():
    final = one_layer([(0, 1), (2, 3), (0, 2)])
    early = one_layer([(1, 0), (2, 0), (1, 3)])
    table = router_saturation(final, early)
    assert table["top_k"].tolist() == pytest.approx([(1 + 0.5 + 0) / 3])
    assert table["top_1"].tolist() == pytest.approx([1 / 3])
    assert table["chance"].tolist() == [0.5] and table["tokens"].tolist() == [3]


def test_a_checkpoint_agrees_with_itself_in_any_order_of_rows():
    trace = tables.random_trace()
    rows = trace.routing.sort_values("weight").reset_index(drop=True)
    table = router_saturation(trace, Trace(trace.tokens, rows, trace.facts))
    assert (table[["top_k", "top_1"]] == 1.0).all(axis=None)


def test_saturation_needs_the_same_text():
    trace = tables.random_trace()
    with pytest.raises(InputError, match="same tokens"):
        router_saturation(trace, tables.random_trace(length=10))
    other_ids = trace.tokens.assign(token=trace.tokens["token"] + 1)
    with pytest.raises(InputError, match="same tokens"):
        router_saturation(trace, Trace(other_ids, trace.routing, trace.facts))
    with pytest.raises(InputError, match="different MoE layers"):
        router_saturation(trace, tables.by_hand())


def test_partial_tables_are_refused():
    trace = tables.random_trace()
    part = Trace(trace.tokens, trace.routing.iloc[1:], trace.facts)
    layer = int(trace.routing["layer"].iloc[0])
    with pytest.raises(InputError, match=f"layer {layer} lack some"):
        coactivation(part, layer)
    with pytest.raises(InputError, match="no layer 9"):
        coactivation(trace, 9)
    strange = Trace(trace.tokens.iloc[5:], trace.routing, trace.facts)
    with pytest.raises(InputError, match="tokens table does not"):
        vocabulary_specialisation(strange)


def test_frames_come_back_by_layer():
    trace = tables.random_trace()
    for table in (vocabulary_specialisation(trace), load_balance(trace)):
        assert table["layer"].tolist() == [1, 3, 4]
    assert isinstance(coactivation(trace), pd.DataFrame)
