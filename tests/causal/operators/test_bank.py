"""Removing an expert at every site of its bank: against plain forwards, by every engine, and what it must refuse."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe
from made.by_hand import build, document, forward

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.lab.tying import tie

GROUPS = ((1, 2, 3),)
KEYS = ["document", "position", "layer", "rank"]


@functools.cache
def tied():
    """An OLMoE of five layers of which 1, 2 and 3 share their experts."""
    hf = tiny_moe.build("olmoe", num_hidden_layers=5)
    tie(hf, 3)
    return ma.load(hf)


@functools.cache
def tables(**options):
    docs = [tiny_moe.ids(n, seed=n) for n in (14, 9)]
    return tuple(ma.ablate(tied(), docs, op, **options) for op in (ma.Bank(GROUPS), ma.Zero()))


def plainly(model, ids, row, groups):
    """delta NLL of one row by one forward: the expert at weight 0 at this token here and in later layers."""
    later = next((g for g in groups if row.layer in g), (row.layer,))

    def answer(hidden, index, weight):
        weight[row.position, index[row.position] == row.expert] = 0.0
        return index, weight

    answers = {model.anatomy[i].experts: answer for i in later if i >= row.layer}
    clean, edited = forward(model.hf, ids), forward(model.hf, ids, answers)
    target = ids[row.position + 1]
    return float(clean[row.position, target] - edited[row.position, target])


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v2", "flex_olmo", "jamba"])
def test_rows_are_plain_forwards(name):
    """By rows, by layers that are run again, and by full forwards; layers need not share anything for that."""
    model = ma.load(build(name))
    layers = model.anatomy.indices
    groups = (tuple(layers[-2:]),)
    ids = document(9)
    effects = ma.ablate(model, [ids], ma.Bank(groups))
    inside = effects[effects.layer == layers[-2]]
    for row in inside.iloc[:: max(1, len(inside) // 5)].itertuples():
        assert row.delta_nll == pytest.approx(plainly(model, ids, row, groups), abs=3e-5)


def test_three_sites_of_a_tied_model():
    bank, single = tables()
    ids = torch.as_tensor(tiny_moe.ids(14, seed=14))
    rows = bank[(bank.document == 0) & bank.layer.isin([1, 2])].iloc[::9]
    found = [plainly(tied(), ids, row, GROUPS) for row in rows.itertuples()]
    np.testing.assert_allclose(rows.delta_nll, found, atol=3e-5)
    # At the last site, and in layers of no group, it is the removal at one site.
    alone = ~bank.layer.isin([1, 2])
    np.testing.assert_array_equal(bank.delta_nll[alone], single.delta_nll[alone])
    assert (bank.delta_nll[~alone] - single.delta_nll[~alone]).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{"horizon": 3}, {"frozen_routing": True}])
def test_with_a_horizon_and_with_frozen_routing(options):
    docs = [tiny_moe.ids(9, seed=9)]
    effects = ma.ablate(tied(), docs, ma.Bank(GROUPS), **options)
    assert ma.verify(effects, tied(), n=20).agrees
    plain = tables()[0]
    if "horizon" in options:
        mine = plain[plain.document == 1].delta_nll.to_numpy()
        np.testing.assert_allclose(effects.delta_nll, mine, atol=1e-5)
        assert effects.spill_kl.max() > 0


@pytest.mark.parametrize("engine", ["hooks", "nnsight", "transformer_lens"])
def test_the_second_way_agrees(engine):
    found = ma.verify(tables()[0], tied(), n=10, engine=engine)
    assert found.skipped is None and found.agrees


def test_full_forwards_frozen_rows_in_parts_and_a_sample_are_the_same(monkeypatch):
    bank = tables()[0]
    docs = [tiny_moe.ids(n, seed=n) for n in (14, 9)]
    part = ma.ablate(tied(), docs, ma.Bank(GROUPS), share=0.4)
    same = pd.DataFrame(part[KEYS]).merge(bank, on=KEYS, how="left", validate="1:1")
    np.testing.assert_allclose(part.delta_nll, same.delta_nll, atol=1e-5)
    from moeaudit.causal.walk.plan import WalkPlan

    with monkeypatch.context() as patch:
        patch.setattr(WalkPlan, "rows_at_once", lambda self, steps=1: 5)  # noqa: ARG005
        split = ma.ablate(tied(), docs, ma.Bank(GROUPS))
    np.testing.assert_allclose(split.delta_nll, bank.delta_nll, atol=1e-5)
    with monkeypatch.context() as patch:
        patch.setattr(WalkPlan, "streams", True)  # several documents in one walk
        together = ma.ablate(tied(), docs, ma.Bank(GROUPS))
    np.testing.assert_array_equal(together.delta_nll, bank.delta_nll)


def test_additivity_is_the_bank_less_its_sites():
    bank, single = tables()
    table = ma.bank_additivity(bank, single, tied().anatomy.tied)
    assert tied().anatomy.tied == GROUPS
    assert set(table["sites"]) <= {1, 2, 3} and table["sites"].max() > 1
    one = table[table["sites"] > 1].iloc[0]
    mine = single[
        (single.document == one.document)
        & (single.position == one.position)
        & (single.expert == one.expert)
        & single.layer.isin(GROUPS[0])
    ]
    assert len(mine) == one.sites and one.layer == mine.layer.min()
    assert one["sum"] == pytest.approx(mine.delta_nll.astype(float).sum())
    whole = bank.loc[mine.index[mine.layer == one.layer], "delta_nll"]
    assert one.whole == pytest.approx(float(whole.iloc[0])) and one.gap == one.whole - one["sum"]
    # The last site alone: there is nothing that could differ.
    assert (table.gap[(table.layer == 3)] == 0).all()
    means = ma.stats.additivity_by_bank(table)
    assert means["rows"].sum() == len(table) and {"gap_low", "gap_high"} <= set(means.columns)


def test_tables_that_do_not_belong_together():
    bank, single = tables()
    with pytest.raises(InputError, match="not the same ones"):
        ma.bank_additivity(bank, single[single.document == 0], GROUPS)
    with pytest.raises(InputError, match="not the same ones"):
        ma.bank_additivity(bank, single, [[7, 8]])
    with pytest.raises(InputError, match="no group at all"):
        ma.bank_additivity(bank, single, [])
    twice = pd.concat([bank, bank]), pd.concat([single, single])
    with pytest.raises(InputError, match="several rows"):
        ma.bank_additivity(*twice, GROUPS)


@pytest.mark.parametrize("groups", [(), ((1,),), ((1, 1),), "12", 3, (("a", "b"),), (1, 2)])
def test_groups_that_are_none(groups):
    with pytest.raises(InputError, match="groups of at least two layers"):
        ma.Bank(groups)


def test_what_a_bank_cannot_be():
    with pytest.raises(InputError, match="a layer is named twice"):
        ma.Bank(((1, 2), (2, 3)))
    with pytest.raises(InputError, match="Without"):
        ma.Everywhere(ma.Bank(((1, 2),)))
    with pytest.raises(InputError, match="Layer 9 does not exist"):
        ma.ablate(tied(), [tiny_moe.ids(5)], ma.Bank(((1, 9),)))
    assert ma.Bank([[3, 2]]).groups == ((2, 3),)
