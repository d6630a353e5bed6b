"""Rows through experts together or in turn: the same numbers, only where they would be grouped, put back after."""

import pytest
import torch

import moeaudit as ma
from moeaudit.models.experts import in_turn as module
from moeaudit.models.experts.in_turn import NAME, in_turn, one_by_one, together
from moeaudit.models.forward import experts_as
from moeaudit.models.precision import rounding
from tests.made import architectures

ROWS = 96
WAYS = (one_by_one, together)


def rows_for(layer, rows=ROWS, seed=0):
    """Hidden states, experts and weights for one layer; the last expert is left without a row."""
    seeded = torch.Generator().manual_seed(seed)
    matrix = layer.experts.down_proj
    width = matrix.shape[2 if layer.experts.is_transposed else 1]
    hidden = torch.randn(rows, width, generator=seeded)
    order = torch.rand(rows, layer.num_experts - 1, generator=seeded).argsort(1)
    return hidden, order[:, : layer.top_k], torch.rand(rows, layer.top_k, generator=seeded)


def asking(model):
    """Layers whose experts look their function up in transformers' registry."""
    return [layer for layer in model.anatomy.layers if module._asks(layer.experts)]


@torch.no_grad()
def test_it_is_what_each_architecture_computes():
    """Gates of their own, biases and transposed matrices (gpt-oss) among them."""
    kinds = set()
    for architecture in architectures.ARCHITECTURES:
        model = ma.load(architecture.build())
        for layer in asking(model)[:1]:
            given = rows_for(layer)
            with experts_as(model.hf, "eager"):
                wanted = layer.experts(*given)
            for way in WAYS[: 1 if layer.experts.has_bias else 2]:
                off = (way(layer.experts, *given) - wanted).abs().max()
                assert off <= rounding(wanted).output * wanted.abs().max(), architecture.name
            kinds.add((layer.experts.is_transposed, layer.experts.has_bias))
    assert (True, True) in kinds and (False, False) in kinds


@torch.no_grad()
def test_experts_with_a_bias_or_of_some_size_go_in_turn(monkeypatch):
    olmoe, oss = (
        ma.load(architectures.BY_NAME[name].build()).anatomy.layers[0].experts
        for name in ("olmoe", "gpt_oss")
    )
    assert module._small(olmoe) and not module._small(oss)
    both = [olmoe.gate_up_proj, olmoe.down_proj]
    monkeypatch.setattr(module, "SMALL", 4 * sum(each[0].numel() for each in both) - 1)
    assert not module._small(olmoe)
    monkeypatch.undo()
    monkeypatch.delattr(torch.nn.functional, "grouped_mm")  # torch before 2.10
    assert not module._small(olmoe)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_slot_without_an_expert_adds_nothing(way):
    model = ma.load(architectures.BY_NAME["olmoe"].build())
    layer = model.anatomy.layers[0]
    hidden, index, weight = rows_for(layer)
    nobody, none = index.clone(), weight.clone()
    nobody[::2, 1], none[::2, 1] = layer.num_experts, 0.0
    wanted = one_by_one(layer.experts, hidden, index, none)
    assert torch.equal(way(layer.experts, hidden, nobody, weight), wanted)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("implementation", ["grouped_mm", "eager", "batched_mm"])
def test_only_a_grouped_product_gives_way_and_all_is_put_back(implementation, way, monkeypatch):
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "SMALL", 1 << 18 if way is together else 0)
    ran = []
    monkeypatch.setattr(module, way.__name__, lambda *given: ran.append(1) or way(*given))
    built = architectures.BY_NAME["olmoe"].build()
    model = ma.load(built, experts_implementation=implementation)
    before = built.config._experts_implementation
    ids = torch.arange(40) % 90
    effects = ma.ablate(model, [ids])
    assert bool(ran) == (implementation == "grouped_mm")
    assert built.config._experts_implementation == before != NAME
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "LEAST", 10**9)
    grouped = ma.ablate(model, [ids])
    for column in ("delta_nll", "kl"):
        assert (effects[column] - grouped[column]).abs().max() <= 1e-5
    assert effects["delta_nll"].abs().max() > 0.01


def test_it_is_put_back_where_the_layer_fails():
    model = ma.load(architectures.BY_NAME["olmoe"].build())
    layer = model.anatomy.layers[0]
    with pytest.raises(ZeroDivisionError), in_turn(layer):
        assert layer.experts.config._experts_implementation == NAME
        raise ZeroDivisionError
    assert layer.experts.config._experts_implementation == "grouped_mm"


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_experts_that_compute_something_else_are_left_alone(way, monkeypatch):
    """Held against the layer's own function once; a difference beyond rounding, and it is never used there."""
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "SMALL", 1 << 18 if way is together else 0)
    monkeypatch.setattr(module, way.__name__, lambda experts, hidden, *_: hidden * 0 + 1)
    model = ma.load(architectures.BY_NAME["olmoe"].build())
    layer = model.anatomy.layers[0]
    given = rows_for(layer)
    wanted = layer.experts(*given)
    with in_turn(layer):
        assert torch.equal(layer.experts(*given), wanted)


@torch.no_grad()
def test_a_forward_of_ones_own_runs(monkeypatch):
    model = ma.load(architectures.BY_NAME["olmoe"].build())
    layer = model.anatomy.layers[0]
    monkeypatch.setattr(type(layer.experts), "forward", lambda experts, hidden, *_: hidden * 0 + 7)
    given = rows_for(layer)
    with in_turn(layer):
        assert (layer.experts(*given) == 7).all()


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_marks_that_older_transformers_lacks_are_not_asked_for(way, monkeypatch):
    """5.6 sets no `has_post_expert_norm` and no `_is_expert_parallel` on experts."""
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "SMALL", 1 << 18 if way is together else 0)
    model = ma.load(architectures.BY_NAME["olmoe"].build())
    layer = model.anatomy.layers[0]
    given = rows_for(layer)
    wanted = layer.experts(*given)
    module.experts_in_turn(layer.experts, *given)  # held against transformers' own once
    for name in ("has_post_expert_norm", "_is_expert_parallel"):
        for owner in (layer.experts, *type(layer.experts).__mro__):
            if name in vars(owner):
                monkeypatch.delattr(owner, name)
        assert not hasattr(layer.experts, name)
    off = (way(layer.experts, *given) - wanted).abs().max()
    assert off <= rounding(wanted).output * wanted.abs().max()
    found = module.experts_in_turn(layer.experts, *given)
    assert (found - wanted).abs().max() <= rounding(wanted).output * wanted.abs().max()
