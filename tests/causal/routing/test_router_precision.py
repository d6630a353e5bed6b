"""Routers in another precision: nothing changes in their own, selections and losses do in a coarse one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import architectures, tiny_moe

import moeaudit as ma
from moeaudit.causal.routing.rounded import rounded, routers_in
from moeaudit.errors import ContractError, InputError

DOCS = [tiny_moe.ids(24, seed) for seed in range(3)]


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_their_own_precision_changes_nothing_and_int8_does(architecture):
    found = ma.router_precision(tiny_moe.load(architecture), DOCS, ["float32", "int8"])
    of = found.selections.set_index(["precision", "layer"])
    assert (of.loc["float32", "changed"] == 0).all() and (of.loc["float32", "here"] == 0).all()
    assert (found.tokens.loc[found.tokens["precision"] == "float32", "delta_nll"] == 0).all()
    assert of.loc["int8", "changed"].max() > 0
    coarse = found.tokens[found.tokens["precision"] == "int8"]
    assert len(coarse) == 3 * 23 and (coarse["delta_nll"].abs() > 0).any()
    cost = found.cost.set_index(["precision", "tokens"])
    assert cost.loc[("int8", "all"), "delta_nll"] == pytest.approx(coarse["delta_nll"].mean())
    changed = coarse[coarse["changed_layers"] > 0]
    assert cost.loc[("int8", "changed"), "rows"] == len(changed) > 0
    assert cost.loc[("int8", "changed"), "delta_nll"] == pytest.approx(changed["delta_nll"].mean())
    assert "int8" in repr(found) and "<table" in found._repr_html_()


def test_the_first_layer_rounds_alone_and_later_ones_follow():
    found = ma.router_precision(tiny_moe.load("olmoe"), DOCS, ["int8"])
    first = found.selections.iloc[0]
    assert first["changed"] == first["here"]  # nothing below it was changed
    assert list(found.selections["layer"]) == [0, 1, 2]


def test_the_cost_is_that_of_a_model_whose_router_was_rounded_by_hand():
    model = ma.load(tiny_moe.build("deepseek_v2"))
    by_hand = tiny_moe.build("deepseek_v2")
    ids = torch.from_numpy(DOCS[0])[None]
    with torch.no_grad():
        for layer in model.anatomy.layers:
            gate = by_hand.get_submodule(layer.router_path)
            gate.weight.copy_(rounded(gate.weight, "int8"))
            gate.register_forward_pre_hook(lambda _, args: (rounded(args[0], "int8"),))
        logits = by_hand(input_ids=ids).logits[0]
        clean = model.hf(input_ids=ids).logits[0]

    def nll(of: torch.Tensor) -> np.ndarray:
        picked = torch.log_softmax(of[:-1].double(), -1).gather(-1, ids[0, 1:, None])
        return -picked[:, 0].numpy()

    found = ma.router_precision(model, DOCS[:1], ["int8"])
    assert found.tokens["delta_nll"].to_numpy() == pytest.approx(nll(logits) - nll(clean), abs=1e-5)
    assert found.cost["delta_nll_low"].isna().all()  # one document: no interval


def test_rounding_by_hand():
    x = torch.tensor([[127.0, 1.4, -63.6], [0.0, 0.0, 0.0]])
    assert rounded(x, "int8").tolist() == [[127, 1, -64], [0, 0, 0]]
    assert rounded(torch.tensor([1 + 2**-9]), "bfloat16").item() == 1
    assert rounded(x.bfloat16(), "float32").dtype == torch.float32


def test_routers_are_put_back():
    model = tiny_moe.load("qwen2_moe")
    before = model.anatomy.layers[0].router.forward
    with pytest.raises(RuntimeError, match="out"), routers_in(model.anatomy.layers, "int8"):
        raise RuntimeError("out")
    assert model.anatomy.layers[0].router.forward == before
    assert "forward" not in model.anatomy.layers[0].router.__dict__


def test_bad_input():
    model = tiny_moe.load("olmoe")
    with pytest.raises(InputError, match="precision of routers"):
        ma.router_precision(model, DOCS, ["int4"])
    with pytest.raises(InputError, match="No precision"):
        ma.router_precision(model, DOCS, [])
    odd = ma.load(architectures.BY_NAME["longcat_flash"].build())
    odd.anatomy.layers[0].router.forward = lambda hidden: hidden
    with (
        pytest.raises(ContractError, match="one linear map"),
        routers_in(odd.anatomy.layers, "int8"),
    ):
        odd.anatomy.layers[0].router(torch.zeros(1, 32))
