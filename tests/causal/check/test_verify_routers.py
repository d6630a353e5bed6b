"""Routers that their block hands a bias: what is recomputed of expert sets, and what is skipped."""

from __future__ import annotations

import pytest
import torch
from made.architectures import ARCHITECTURES, Architecture

import moeaudit as ma

KNOWN = {each.name: each for each in ARCHITECTURES}
NAMES = ("minimax_m2", "lfm2_moe", "afmoe", "hy_v3")


@pytest.mark.parametrize("engine", ["hooks", "nnsight"])
@pytest.mark.parametrize("name", NAMES)
def test_expert_sets_are_recomputed_or_skipped_with_the_reason(name, engine):
    model = ma.load(KNOWN.get(name, Architecture(name, "")).build())
    layer = model.anatomy.layers[-1].index
    ids = [torch.arange(20, 34)]
    found = ma.verify(ma.ablate(model, ids, ma.Without({layer: [0, 1]})), model, n=4, engine=engine)
    assert (found.n == 0) == (found.skipped is not None)
    if found.skipped is not None:
        assert "answers by another rule" in str(found.skipped)
    zeroed = ma.ablate(model, ids, ma.Without({layer: [0, 1]}, rule="zero"))
    found = ma.verify(zeroed, model, n=4, engine=engine)
    assert found.n == 4 and found.skipped is None


def test_the_layer_of_a_routing_is_the_layer():
    model = ma.load(KNOWN["olmoe"].build())
    seen = []

    def keep(routing):
        seen.append((routing.layer.index, routing.layer.num_experts, routing.layer.top_k))
        return routing.index, routing.weight

    ma.ablate(model, [torch.arange(20, 30)], ma.Custom(keep), layers=[1])
    assert set(seen) == {(1, 8, 3)} and "`index`" in str(ma.Custom.__doc__)
