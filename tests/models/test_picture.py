"""The picture of a model: a mark a layer, dense and shared told apart, the router's rule in words."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from made import tiny_moe

from moeaudit.models.model.picture import layers_in_words, page, picture, rule, shared_in_words


def drawing(model):
    svg = picture(model).partition("<p>")[0]
    return ET.fromstring(svg)


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_each_layer_is_drawn_once(architecture):
    model = tiny_moe.load(architecture)
    root = drawing(model)
    tips = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(tips) == model.anatomy.n_layers
    dense = [i for i, tip in enumerate(tips) if tip and tip.endswith("dense")]
    assert [i for i in range(len(tips)) if i not in dense] == model.anatomy.indices
    first = model.anatomy.layers[0]
    assert f"{first.top_k} of {first.num_experts} experts active" in tips[first.index]


def test_dense_and_shared_are_told_apart():
    deepseek, olmoe = tiny_moe.load("deepseek_v2"), tiny_moe.load("olmoe")
    assert "dense: 0" in layers_in_words(deepseek) and "dense" not in layers_in_words(olmoe)
    assert shared_in_words(olmoe) == "none"
    assert "every layer with routed experts" in shared_in_words(deepseek)
    assert "Orange" in page(deepseek) and "Orange" not in page(olmoe)
    assert "Empty: dense" in page(deepseek) and "Empty: dense" not in page(olmoe)


def test_the_rule_is_the_one_that_was_found():
    model = tiny_moe.load("olmoe")
    layer = model.anatomy.layers[0]
    words = "sum to one" if layer.weights_sum_to_one else "do not sum to one"
    assert f"{layer.top_k} of {layer.num_experts} experts" in rule(model) and words in rule(model)
