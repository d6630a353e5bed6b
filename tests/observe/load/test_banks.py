"""Load of a bank over its sites, and agreement of what sites choose: by hand, and on models whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import routing_tables as tables
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.lab.tying import tie
from moeaudit.observe import bank_load
from moeaudit.observe.load.banks import agreement

DOCS = [tiny_moe.ids(30, seed=1), tiny_moe.ids(20, seed=2)]


def test_load_of_a_bank_is_summed_over_sites():
    # Layers 1 and 3, four experts: 0 and 1 in the one, 1 and 2 in the other; 3 is dead in both.
    tokens = [(0, "a", p, 1, 1) for p in range(2)]
    routing = [
        (0, p, layer, 0, expert, 0.5, 1.0, 0.1)
        for layer, chosen in ((1, (0, 1)), (3, (1, 2)))
        for p, expert in enumerate(chosen)
    ]
    table = bank_load(tables.trace_of(tokens, routing, 4), [(1, 3)])
    assert table["slots"].tolist() == [1, 2, 1, 0]
    assert table["share"].tolist() == [0.25, 0.5, 0.25, 0.0]
    assert table["sites"].tolist() == [1, 2, 1, 0]
    assert table["dead"].tolist() == [False, False, False, True]
    assert table["bank"].tolist() == [1] * 4
    with pytest.raises(InputError, match="at least two layers"):
        bank_load(tables.random_trace(), [(1,)])
    with pytest.raises(InputError, match="no layer 9"):
        bank_load(tables.random_trace(), [(1, 9)])


def test_agreement_by_hand():
    picks = np.array(
        [[[0, 1], [0, 1]], [[0, 1], [2, 1]], [[1, 0], [3, 4]]]
    )  # 3 sites, 2 tokens, top-2
    found = agreement(picks, 8)
    # Token 0: sets alike. Token 1: {0,1}, {2,1}, {3,4}: Jaccard 1/3, 0, 0; five different of 2 to 6.
    assert found["jaccard"] == pytest.approx((1 + 1 / 9) / 2)
    assert found["distinct"] == pytest.approx((1 + (1 - 3 / 4)) / 2)
    assert found["top_1"] == pytest.approx((1 / 3 + 0) / 2)
    assert agreement(picks[:, :, :1], 8)["top_1"] == pytest.approx(1 / 6)
    with pytest.raises(InputError, match="nobody to agree"):
        agreement(picks[:1], 8)


def test_copied_routers_agree_at_the_same_input_and_not_on_their_way():
    hf = tiny_moe.build("olmoe", num_hidden_layers=4)
    tie(hf)
    with torch.no_grad():
        hf.model.layers[2].mlp.gate.weight.copy_(hf.model.layers[1].mlp.gate.weight)
    table = ma.site_agreement(ma.load(hf), DOCS)
    assert table["bank"].tolist() == [1, 1] and table["tokens"].tolist() == [29, 19]
    for name in ("jaccard", "distinct", "top_1"):
        assert table[f"{name}_same_input"].tolist() == [1.0, 1.0]
        assert (table[name] < 0.95).all()
        np.testing.assert_allclose(table[f"{name}_gap"], 1 - table[name])


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_of_the_trajectory_is_what_the_trace_holds(architecture):
    model = tiny_moe.load(architecture)
    trace = ma.capture(model, DOCS)
    table = ma.site_agreement(model, DOCS, [(1, 2)])
    wide = trace.routing.groupby(["document", "position", "layer"])["expert"].agg(set).unstack()
    jaccard = wide.apply(lambda row: len(row[1] & row[2]) / len(row[1] | row[2]), axis=1)
    np.testing.assert_allclose(table["jaccard"], jaccard.groupby("document").mean())
    # 8 experts, top 3: overlaps of 0 to 3 with weights 10, 30, 15, 1 of 56.
    assert table["jaccard_chance"][0] == pytest.approx((30 / 5 + 15 * 2 / 4 + 1) / 56)


def test_pieces_of_one_document_are_one_row():
    whole = ma.site_agreement(tiny_moe.load("olmoe"), [DOCS[0]], [(0, 1, 2)], max_length=12)
    assert len(whole) == 1 and whole["tokens"][0] == 27  # 12 + 12 + 6, less one each


def test_models_that_share_nothing_and_groups_that_are_none():
    model = tiny_moe.load("olmoe")
    with pytest.raises(InputError, match="share no experts"):
        ma.site_agreement(model, DOCS)
    with pytest.raises(InputError, match="does not exist"):
        ma.site_agreement(model, DOCS, [(1, 7)])
