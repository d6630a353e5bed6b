"""The batch-mate test: a batch-pooled router fails it, a per-token router passes, and rounding is told apart."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from made import architectures, pooled, tiny_moe

import moeaudit as ma
from moeaudit.causal.check.mates.compare import Seen, apart
from moeaudit.errors import InputError


def test_golden_a_batch_pooled_router_fails_and_a_per_token_router_passes():
    states = torch.randn(4, 10, 16, generator=torch.Generator().manual_seed(1))
    fails = ma.batch_mates(pooled.Block(pooled=True), hidden=states)
    passes = ma.batch_mates(pooled.Block(pooled=False), hidden=states)
    assert fails.independent is False and passes.independent is True
    row = fails.table.iloc[0]
    # It depends on others, not on copies of the sample: those pool to the same choice.
    assert row["output"] > 0.1 and row["same_output"] < 1e-5 and row["wide_output"] > 0.1
    assert "DEPENDS on batch mates" in repr(fails) and "does not depend" in repr(passes)
    assert "<table" in fails._repr_html_()


def test_a_dependence_below_what_one_could_call_rounding_is_seen():
    """1e-6 of the output is of the order of float32 rounding; in float64 it does not shrink."""
    small = ma.batch_mates(pooled.LeaningSoftly(3e-6), samples=3, tokens=8)
    none = ma.batch_mates(pooled.LeaningSoftly(0.0), samples=3, tokens=8)
    assert small.independent is False and small.table["output"].max() < 1e-5
    assert none.independent is True


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_supported_models_pass_with_all_experts_implementations(architecture):
    found = ma.batch_mates(tiny_moe.load(architecture), samples=2, tokens=6)
    assert found.independent is True, repr(found)
    assert list(dict.fromkeys(found.table["experts"])) == ["eager", "batched_mm", "grouped_mm"]
    blocks = len(tiny_moe.load(architecture).anatomy.layers)
    assert len(found.table) == 3 * (blocks + 1)
    assert found.table["moved"].sum() == 0 and (found.table["output"] < 1e-5).all()


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "longcat_flash"])
def test_other_architectures_pass(name):
    model = ma.load(architectures.BY_NAME[name].build())
    found = ma.batch_mates(model, samples=2, tokens=6)
    assert found.independent is True, repr(found)
    assert bool(found.notes) == (name == "longcat_flash")  # its experts run in one way only


def test_a_pooled_router_inside_a_model_is_named_by_its_layer():
    hf = tiny_moe.build("olmoe")
    pooled.pool_the_router(hf, layer=1)
    found = ma.batch_mates(ma.load(hf), samples=3, tokens=8, experts="eager")
    assert found.independent is False
    by_layer = found.table.set_index("layer", drop=False)["verdict"]
    assert by_layer[1] == "depends" and by_layer[0] != "depends"
    # Layer 2 on its own is as it was: exactly the same hidden states go in.
    assert by_layer[2] != "depends"
    whole = found.table[found.table["layer"].isna()].iloc[0]
    assert whole["verdict"] == "depends" and whole["moved"] > 0


def test_half_precision_is_told_apart_as_well():
    model = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    found = ma.batch_mates(model, samples=3, tokens=8, experts=["eager", "batched_mm"])
    assert found.dtype == "bfloat16"
    assert found.independent is True, repr(found)


def test_training_mode_and_implementation_are_put_back():
    hf = tiny_moe.build("olmoe")
    model = ma.load(hf)
    hf.train()
    before = hf.config._experts_implementation
    ma.batch_mates(model, samples=2, tokens=4, experts="eager")
    assert hf.training and hf.config._experts_implementation == before
    block = pooled.Block(pooled=False).train()
    ma.batch_mates(block, samples=2, tokens=4)
    assert block.training and block.experts[0].training


def test_sets_are_compared_whatever_their_order_and_ties_are_no_change():
    output = torch.ones(2, 3)
    one = Seen(output, torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0.6, 0.4], [0.5, 0.5]]))
    turned = Seen(output, torch.tensor([[1, 0], [2, 4]]), torch.tensor([[0.4, 0.6], [0.5, 0.5]]))
    found = apart(one, turned)
    assert (found.tokens, found.moved, found.tied, found.weight, found.output) == (2, 1, 1, 0, 0)


def test_bundled_text_is_read():
    model = ma.load("tiny-olmoe")
    docs = ma.corpus("bundled", split="test")
    found = ma.batch_mates(model, docs, samples=2, tokens=4, experts="eager")
    assert found.independent is True and (found.samples, found.tokens) == (2, 4)


def test_what_cannot_be_tested_is_refused():
    model = tiny_moe.load("olmoe")
    with pytest.raises(InputError, match="at least 2 samples"):
        ma.batch_mates(model, samples=1)
    with pytest.raises(InputError, match="names among eager"):
        ma.batch_mates(model, experts="eagre")
    with pytest.raises(InputError, match="at most 64"):
        ma.batch_mates(model, tokens=65)
    with pytest.raises(InputError, match="it takes hidden="):
        ma.batch_mates(pooled.Block(pooled=False), experts="eager")
    with pytest.raises(InputError, match="All samples are the same"):
        ma.batch_mates(pooled.Block(pooled=False), hidden=torch.ones(3, 4, 16))
    with pytest.raises(InputError, match="at least two samples"):
        ma.batch_mates(pooled.Block(pooled=False), hidden=torch.ones(4, 16))
    with pytest.raises(InputError, match="no tensor of the shape"):
        ma.batch_mates(torch.nn.Linear(4, 5))
    with pytest.raises(InputError, match="how wide"):
        ma.batch_mates(torch.nn.LayerNorm(4))


def test_a_block_of_limited_room_fails_though_copies_crowd_it_as_much():
    found = ma.batch_mates(pooled.Block(pooled=False, capacity=4), samples=3, tokens=8)
    row = found.table.iloc[0]
    assert (
        found.independent is False and row["output"] <= row["same_output"]
    )  # the copies alone tell
    wide = ma.batch_mates(pooled.Block(pooled=False, capacity=1000), samples=3, tokens=8)
    assert wide.independent is True


def test_a_block_that_cannot_be_widened_is_undecided(monkeypatch):
    from moeaudit.causal.check.mates import verdict

    monkeypatch.setattr(verdict, "widened", lambda _: "its weights stand aside")
    found = ma.batch_mates(pooled.Block(pooled=True), samples=3, tokens=8)
    assert found.independent is None and "not decided" in repr(found)
    assert pd.isna(found.table["wide_output"].iloc[0])
