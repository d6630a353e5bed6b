"""Rows through experts together or in turn: the same numbers, only where they would be grouped, put back after."""

import itertools
from dataclasses import replace

import pytest
import torch

import moeaudit as ma
from moeaudit.models.experts import many_rows as module
from moeaudit.models.experts.many_rows import NAME, many_rows, one_by_one, together
from moeaudit.models.forward import experts_as
from moeaudit.models.precision import rounding
from tests.made import architectures

ROWS = 96
WAYS = (one_by_one, together) if module._BY_NAME else (one_by_one,)
by_name = pytest.mark.skipif(not module._BY_NAME, reason="torch has no grouped product by name")


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
            for way in WAYS[: 1 if layer.experts.has_bias else None]:
                off = (way(layer.experts, *given) - wanted).abs().max()
                assert off <= rounding(wanted).output * wanted.abs().max(), architecture.name
            kinds.add((layer.experts.is_transposed, layer.experts.has_bias))
    assert (True, True) in kinds and (False, False) in kinds


@by_name
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
    monkeypatch.setattr(module, "_BY_NAME", False)
    assert not module._small(olmoe)


@by_name
@pytest.mark.parametrize("rows", [0, 1, 96])
@torch.no_grad()
def test_small_experts_take_any_number_of_rows_together(rows, monkeypatch):
    layer = ma.load(architectures.BY_NAME["olmoe"].build()).anatomy.layers[0]
    given = rows_for(layer, rows)
    wanted = layer.experts(*given)
    module.experts_of_rows(layer.experts, *rows_for(layer))  # held against transformers' own once
    ran = []
    monkeypatch.setattr(module, "together", lambda *given: ran.append(1) or together(*given))
    found = module.experts_of_rows(layer.experts, *given)
    assert bool(ran) == (rows > 0) and found.shape == wanted.shape == (rows, given[0].shape[1])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(module, "MANY", 2)  # more pairs than that go in turn
    ran.clear()
    found = module.experts_of_rows(layer.experts, *given)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert not ran


class Made(torch.nn.Module):
    """Experts as transformers stacks them, of one kind."""

    def __init__(self, gate, transposed, norm, experts=5, wide=8, inner=12):
        super().__init__()
        seeded = torch.Generator().manual_seed(1)
        first = torch.randn(experts, (1 + gate) * inner, wide, generator=seeded)
        down = torch.randn(experts, wide, inner, generator=seeded)
        if transposed:
            first, down = first.transpose(1, 2), down.transpose(1, 2)
        self.num_experts, self.is_transposed, self.has_gate = experts, transposed, gate
        self.has_bias, self.has_post_expert_norm, self._is_expert_parallel = False, norm, False
        setattr(self, "gate_up_proj" if gate else "up_proj", first)
        self.down_proj, self.act_fn = down, torch.nn.SiLU()
        if norm:
            self.post_expert_norm = torch.nn.RMSNorm(wide)

    def _apply_gate(self, x):
        gate, up = x.chunk(2, -1)
        return self.act_fn(gate) * up


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", list(itertools.product([True, False], repeat=3)))
@torch.no_grad()
def test_every_kind_of_experts_and_of_numbers(kind, way):
    """With a gate or none, matrices either way, a norm after each expert; weights of another kind of number."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    experts = Made(*kind)
    seeded = torch.Generator().manual_seed(2)
    hidden = torch.randn(40, 8, generator=seeded)
    index = torch.randint(5, (40, 3), generator=seeded)  # an expert may stand twice in a row
    weight = torch.rand(40, 3, generator=seeded)
    wanted = ALL_EXPERTS_FUNCTIONS["grouped_mm"](experts, hidden, index, weight)
    for of in (weight, weight.double(), weight[:, [0, 1, 2]].t().contiguous().t()):
        found = way(experts, hidden, index.int(), of)
        torch.testing.assert_close(found.float(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_weights_in_double_precision_edit_as_others_do(way, monkeypatch):
    """An operator of one's own may say its changes in another kind of number."""
    monkeypatch.setattr(module, "SMALL", 1 << 18 if way is together else 0)
    monkeypatch.setattr(module, "LEAST", 1)

    class Sharp(ma.Zero):
        def edits(self, routing):
            plain = super().edits(routing)
            return replace(plain, change=plain.change.double())

    model = ma.load(architectures.BY_NAME["olmoe"].build())
    ids = [torch.arange(20) % 90]
    sharp, plain = ma.ablate(model, ids, Sharp()), ma.ablate(model, ids)
    assert (sharp.delta_nll - plain.delta_nll).abs().max() <= 5e-6


@torch.no_grad()
def test_what_comes_first_does_not_decide_whether_it_fits(monkeypatch):
    """Rows of weight 0 come out as 0 whatever is computed; the verdict is made on rows of its own."""
    layer = ma.load(architectures.BY_NAME["olmoe"].build()).anatomy.layers[0]
    name = "together" if module._small(layer.experts) else "one_by_one"
    real = getattr(module, name)
    monkeypatch.setattr(module, "LEAST", 0)
    monkeypatch.setattr(module, name, lambda *given: 2 * real(*given))
    hidden, index, weight = rows_for(layer, 2)
    module.experts_of_rows(layer.experts, hidden, index, 0 * weight)
    wanted = layer.experts(hidden, index, weight)
    assert torch.equal(module.experts_of_rows(layer.experts, hidden, index, weight), wanted)


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
    with pytest.raises(ZeroDivisionError), many_rows(layer):
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
    with many_rows(layer):
        assert torch.equal(layer.experts(*given), wanted)


@torch.no_grad()
def test_a_forward_of_ones_own_runs(monkeypatch):
    model = ma.load(architectures.BY_NAME["olmoe"].build())
    layer = model.anatomy.layers[0]
    monkeypatch.setattr(type(layer.experts), "forward", lambda experts, hidden, *_: hidden * 0 + 7)
    given = rows_for(layer)
    with many_rows(layer):
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
    module.experts_of_rows(layer.experts, *given)  # held against transformers' own once
    for name in ("has_post_expert_norm", "_is_expert_parallel"):
        for owner in (layer.experts, *type(layer.experts).__mro__):
            if name in vars(owner):
                monkeypatch.delattr(owner, name)
        assert not hasattr(layer.experts, name)
    off = (way(layer.experts, *given) - wanted).abs().max()
    assert off <= rounding(wanted).output * wanted.abs().max()
    found = module.experts_of_rows(layer.experts, *given)
    assert (found - wanted).abs().max() <= rounding(wanted).output * wanted.abs().max()
