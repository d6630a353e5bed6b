"""Capture on every architecture that the census is tested on."""

import pytest
import torch
from made import architectures

import moeaudit as ma


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES, ids=lambda a: a.name)
def test_routing_is_captured_for_every_token_layer_and_rank(architecture):
    model = ma.load(architecture.build())
    ids = torch.randint(
        16, architectures.VOCABULARY, (9,), generator=torch.Generator().manual_seed(0)
    )
    trace = ma.capture(model, [ids])
    assert len(trace.tokens) == 8
    assert len(trace.routing) == 8 * sum(layer.top_k for layer in model.anatomy.layers)
    assert trace.routing.output_norm.gt(0).all()
    effects = ma.ablate(model, [ids])
    key = ["position", "layer", "rank"]
    both = trace.routing.merge(effects, on=key, suffixes=("", "_effects"))
    assert (both.expert == both.expert_effects).all()
