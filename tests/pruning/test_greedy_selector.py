"""EMO's selector, layer after layer: against plain routes, and where it must part from the whole model's ranking."""

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.walk.forwards import applied
from moeaudit.errors import InputError
from moeaudit.observe.modularity import router_mean
from moeaudit.pruning.criteria.greedy import greedy_router_mean

A, B, E = (
    5,
    1,
    3,
)  # experts of layer 0 (A is to go, B leads), and the one of layer 1 that A's output calls


def planted() -> ma.Model:
    """Layer 1's router chooses E where, and only where, layer 0 has used A; A is layer 0's least likely expert.

    Rare tokens (ids below 8, a third) carry dimension 0, on which B is the first choice and A the second; all carry
    dimension 1, on which A is the last.
    """
    model = tiny_moe.build("olmoe", num_hidden_layers=2, num_experts_per_tok=2)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.zero_()
        embedding[:, 1] = 1.0
        embedding[:8, 0] = 1.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.gate.weight.zero_()
            layer.mlp.experts.down_proj.zero_()
        first, second = model.model.layers[0].mlp, model.model.layers[1].mlp
        first.gate.weight[B, 0] = 1.5
        first.gate.weight[A, 0], first.gate.weight[A, 1] = 1.2, -0.3
        first.experts.gate_up_proj[A] = 0.0
        first.experts.gate_up_proj[A, :, 1] = 1.0
        first.experts.down_proj[A, 2, :] = 50.0  # dimension 2 is A's alone
        second.gate.weight[E, 2] = 10.0
        second.gate.weight[E, 1] = -1.0
    return ma.load(model)


def kept(table, layer: int, size: int) -> set[int]:
    mine = table[table["layer"] == layer].nlargest(size, "score")
    return set(mine["expert"])


def test_a_planted_expert_that_lives_on_a_pruned_one_goes_with_it():
    model = planted()
    docs = [np.r_[np.arange(8), 20:36], np.r_[np.arange(8)[::-1], 30:46]]
    whole, greedy = router_mean(model, docs), greedy_router_mean(model, docs, 0.5)
    first = whole[whole["layer"] == 0].sort_values("score")
    assert A in set(first["expert"][:4]) and first["expert"].iloc[-1] == B
    assert E in kept(whole, 1, 4)  # above its even share while A is there
    assert A not in kept(greedy, 0, 4) and E not in kept(greedy, 1, 4)


def test_each_layer_is_ranked_with_those_below_pruned():
    model = tiny_moe.load("qwen2_moe")
    docs = [tiny_moe.ids(20, seed) for seed in range(3)]
    found = greedy_router_mean(model, docs, 0.5)
    whole = router_mean(model, docs)
    first = whole["layer"] == 0
    np.testing.assert_allclose(found["score"][first], whole["score"][first], rtol=1e-5)
    gone = {}
    for layer in (0, 1):
        gone[layer] = sorted(set(range(8)) - kept(found, layer, 4))
        with applied(ma.Without(gone), model):
            below = router_mean(model, docs)
        there = below["layer"] == layer + 1
        np.testing.assert_allclose(found["score"][there], below["score"][there], rtol=1e-5)
    assert np.abs(found["score"] - whole["score"]).max() > 1e-3


def test_a_share_that_leaves_too_few_is_refused():
    with pytest.raises(InputError):
        greedy_router_mean(tiny_moe.load("olmoe"), [tiny_moe.ids(9)], 0.25)
