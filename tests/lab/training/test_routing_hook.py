"""Mechanisms change a router's scores; the rest is the router's own rule, in all three families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import moeaudit.lab as lab
from moeaudit.lab.recipes.architecture import configuration
from moeaudit.lab.training.mechanism import Batch, Mechanism
from moeaudit.lab.training.model import dress, initialised
from moeaudit.lab.training.routing import Routing


@dataclass(frozen=True)
class Banned(Mechanism):
    """One expert stands at minus infinity."""

    name: ClassVar[str] = "banned"
    expert: int

    def route(self, layer, logits, batch):
        return logits.index_fill(1, torch.tensor([self.expert]), -torch.inf)


def routed_with(mechanisms, norm=False, family="olmoe"):
    changes = {"shared_width": 16, "width": 16} if family != "olmoe" else {"norm_topk_prob": norm}
    recipe = lab.recipe("olmoe", quick=True, family=family, layers=2, **changes)
    model = initialised(configuration(recipe.model, 64), 0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    dress(model)
    routing = Routing(model, mechanisms)
    ids = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(2))
    routing.batch = Batch(ids, ["a", "b"], torch.zeros_like(ids))
    weights: list[torch.Tensor] = []
    gate = model.model.layers[1].mlp.gate
    gate.register_forward_hook(lambda module, args, output: weights.append(output[1]))
    model.model(input_ids=ids, use_cache=False)
    return routing.routed(), weights[0]


@pytest.mark.parametrize("family", ["olmoe", "qwen2-moe", "deepseek-v2"])
def test_a_masked_expert_is_never_chosen(family):
    plain, _ = routed_with([], family=family)
    favourite = int(torch.cat([r.index for r in plain]).flatten().mode().values)
    masked, _ = routed_with([Banned(favourite)], family=family)
    assert [r.layer for r in plain] == [r.layer for r in masked]
    for r in masked:
        assert not (r.index == favourite).any()
        assert r.logits.isfinite().all() and (r.probabilities[:, favourite] == 0).all()
        torch.testing.assert_close(r.probabilities.sum(-1), torch.ones(18))


@pytest.mark.parametrize("norm", [False, True])
def test_weights_are_the_routers_own_of_the_changed_scores(norm):
    routed, weights = routed_with([Banned(3)], norm)
    expected, index = routed[1].probabilities.topk(2)
    if norm:
        expected = expected / expected.sum(-1, keepdim=True)
    assert torch.equal(index, routed[1].index)
    torch.testing.assert_close(weights, expected)


def test_without_a_mechanism_nothing_changes():
    one, other = routed_with([])[1], routed_with([Mechanism()])[1]
    assert torch.equal(one, other)
