"""Cards against transformers' own classes: a small instance of each is loaded and its routing read off."""

from __future__ import annotations

import numpy as np
import pytest
from made.architectures import BY_NAME, LATENT

import moeaudit as ma
from moeaudit.errors import InputError, ModelError
from moeaudit.models.bundled.cards import AUDITS, card, cards
from moeaudit.models.experts.shared import shared_expert

NATIVE = [each for each in cards() if each.model_type is not None]
# Of a card's values those that change the router's rule, not a size.
RULE = ("norm_topk_prob", "routed_scaling_factor", "topk_method")
GROUPS = {"n_group": 4, "topk_group": 2}


@pytest.fixture(scope="module", params=NATIVE, ids=[each.name for each in NATIVE])
def small(request):
    """A card, and a small random model of its class under its rule."""
    told = request.param
    more = {name: value for name, value in told.values.items() if name in RULE}
    if "n_group" in told.values:
        more |= GROUPS
    return told, ma.load(BY_NAME[told.model_type].build(**more))


def test_weights_scores_and_shared_expert(small):
    told, model = small
    routing = ma.capture(model, [np.arange(5, 60)]).routing
    weight = routing.pivot(index=["position", "layer"], columns="rank", values="weight").to_numpy()
    total = weight.sum(1)
    if told.weights_sum.startswith("below"):
        assert (total < float(told.weights_sum.split()[1]) - 1e-4).all() and total.std() > 1e-4
    else:
        assert total == pytest.approx(float(told.weights_sum), abs=1e-4)
    logit = routing.pivot(index=["position", "layer"], columns="rank", values="logit").to_numpy()
    score = {"softmax": np.exp, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
    fits = {
        name: np.allclose(weight / weight[:, :1], f(logit) / f(logit)[:, :1], rtol=1e-3)
        for name, f in score.items()
    }
    assert fits == {name: name == told.score for name in score}
    layer = model.anatomy.layers[0]
    if told.shared:
        assert shared_expert(layer, "a shared expert").expert is not None
    else:
        with pytest.raises(ModelError, match="needs a shared"):
            shared_expert(layer, "it")


def test_it_is_audited_as_the_card_says(small):
    told, model = small
    assert told.audit in ("yes", "memory")
    effects = ma.ablate(model, [np.arange(5, 17)], ma.Zero())
    assert len(effects) == 11 * sum(layer.top_k for layer in model.anatomy.layers)
    assert ma.verify(effects, model, n=4).agrees


def test_dense_layers_and_sizes_are_those_of_the_class():
    for told in NATIVE:
        dense = {"none": 0, "layer 0": 1, "layers 0 to 2": 3}[told.dense]
        assert told.sizes.first_moe_layer == dense, told.name
        assert told.sizes.layers - told.sizes.moe_layers == dense, told.name


@pytest.mark.parametrize("name", ["OLMoE-1B-7B", "Granite-3.0-3B-A800M"])
def test_sizes_are_not_stale(name):
    from transformers import AutoConfig

    told = card(name)
    config = AutoConfig.for_model(told.model_type, dtype="bfloat16", **told.values)
    found = ma.cost(config, documents=160, tokens=128, machine="h100")
    assert found.shapes.parameters == told.sizes.parameters
    assert found.work.rows == 160 * told.sizes.removals
    assert found.work.flops / 160e12 == pytest.approx(told.sizes.tflop, abs=0.06)


def test_published_sizes_come_out():
    """To the digits published; GLM's layer for the token after next is not in transformers."""
    for told in NATIVE:
        published = float(told.published.split()[0])
        off = told.sizes.parameters / 1e9 / published - 1
        assert -0.03 < off < 0.01 if told.name == "GLM-4.5-Air" else abs(off) < 0.01, told.name


def test_every_card_says_what_can_be_done_and_why_not():
    assert len(cards()) == 16 and {each.audit for each in cards()} == set(AUDITS)
    for each in cards():
        assert each.can and each.source and each.router
        assert each.audit == "yes" or each.cannot, each.name
        assert (each.sizes is None) == (each.model_type is None), each.name
    assert card("Qwen/Qwen1.5-MoE-A2.7B") is card("Qwen1.5-MoE-A2.7B")
    assert "calibrate" in card("Qwen2.5-Max").can
    with pytest.raises(InputError, match="model with a card"):
        card("gpt-5")


def test_latent_sizes_are_known_to_the_small_models():
    assert LATENT["kv_lora_rank"] and {each.model_type for each in NATIVE} <= set(BY_NAME)
