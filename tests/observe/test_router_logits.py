"""Mean logits of all experts: against the router's own linear map, and where there are none."""

from __future__ import annotations

import pytest
import torch

import moeaudit as ma
from moeaudit.errors import ContractError
from moeaudit.observe import router_logits
from moeaudit.text.for_model import tokens_for


@pytest.mark.parametrize("name", ["tiny-olmoe", "tiny-deepseek-v2"])
def test_mean_logits_equal_the_routers_linear_map(name):
    model = ma.load(name)
    docs = ["The river runs to the sea.", "Two loaves of bread, please, and a little salt."]
    table = router_logits(model, docs)
    seen: dict[int, list[torch.Tensor]] = {layer.index: [] for layer in model.anatomy.layers}
    hooks = [
        layer.router.register_forward_pre_hook(
            lambda _module, args, at=layer.index: seen[at].append(
                args[0].reshape(-1, args[0].shape[-1])
            )
        )
        for layer in model.anatomy.layers
    ]
    with torch.no_grad():
        for chunk in tokens_for(model, docs).chunks:
            model.hf(torch.from_numpy(chunk.ids)[None])
    for hook in hooks:
        hook.remove()
    for layer in model.anatomy.layers:
        given = torch.cat([hidden[:-1] for hidden in seen[layer.index]]).double()
        want = (given @ layer.router.weight.double().T).mean(dim=0)
        got = table[table.layer == layer.index].sort_values("expert").logit.to_numpy()
        assert got == pytest.approx(want.detach().numpy(), abs=1e-4)


def test_a_router_without_logits_is_refused_with_the_reason(monkeypatch):
    model = ma.load("tiny-olmoe")
    monkeypatch.setattr(
        "moeaudit.observe.load.logits.chosen_logits", lambda layer, record: (None, "none here")
    )
    with pytest.raises(ContractError, match="none here"):
        router_logits(model, ["One short text."])
