"""EMO's document pool as an operator: all experts is the model itself, k experts is one set for a document."""

import jaxtyping
import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.operators import DocumentPool, Routing
from moeaudit.causal.operators.routing import rows_by_layer
from moeaudit.errors import InputError
from moeaudit.models.forward import clean_pass
from moeaudit.models.router import without_experts


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_a_pool_of_all_experts_is_the_model(architecture):
    model, ids = tiny_moe.load(architecture), tiny_moe.ids(20)
    for draw in ("own", "random"):
        effects = ma.ablate(model, [ids], ma.DocumentPool(8, draw=draw))
        assert len(effects) == 19 and (effects[["layer", "rank", "expert"]] == -1).all(axis=None)
        assert (effects.delta_nll == 0).all() and (effects.kl == 0).all()
        assert (effects.weight == 0).all() and not effects.flip.any()


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_a_pool_of_k_forces_every_token_into_one_set(architecture):
    model, ids = tiny_moe.load(architecture), tiny_moe.ids(20)
    operator = ma.DocumentPool(3)
    _, seen = clean_pass(model, model.anatomy.layers, torch.as_tensor(ids)[None])
    for layer in model.anatomy.layers:
        given = seen[layer.index]
        index, weight = operator.answer(layer, given.hidden, given.index, given.weight)
        sets = index.sort(-1).values
        assert (sets == sets[0]).all()
        pool = operator.pool(layer, given.hidden)
        assert sets[0].tolist() == pool.nonzero().flatten().tolist()
        # The softmax is taken again inside the pool: its probabilities are all of the weight.
        np.testing.assert_allclose(weight.sum(-1), 1.0, atol=1e-5)
        probabilities = layer.router(given.hidden[None])[0].softmax(-1)
        best = probabilities.mean(0).topk(3).indices.sort().values
        assert best.tolist() == sets[0].tolist()
        inside = (given.index[..., None] == best).any(-1)
        outside = (~inside * given.weight).sum(-1)
        removed = operator.removed(layer, given.hidden, given.index, given.weight)
        np.testing.assert_allclose(removed, outside)


def test_the_weight_that_fell_is_outside_the_pools_that_were_in_force():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(20)
    operator, tokens, layers = ma.DocumentPool(3), torch.as_tensor(ids)[None], model.anatomy.layers
    effects = ma.ablate(model, [ids], operator)
    _, clean = clean_pass(model, layers, tokens)
    gone, fell, first = {}, torch.zeros(20), torch.zeros(20)
    for layer in layers:  # each pool is made of what the masks below leave
        with without_experts(model, gone):
            _, seen = clean_pass(model, layers, tokens)
        for hidden, total in ((seen, fell), (clean, first)):
            outside = ~operator.pool(layer, hidden[layer.index].hidden)
            total += (outside[clean[layer.index].index] * clean[layer.index].weight).sum(-1)
            if total is fell:
                gone[layer.index] = outside.nonzero().flatten().tolist()
    np.testing.assert_allclose(effects.weight, fell[:-1], atol=1e-5)
    assert not np.allclose(
        effects.weight, first[:-1], atol=1e-3
    )  # pools of clean states are others


def test_a_row_of_the_whole_model_is_counted_once():
    layers = tiny_moe.load("olmoe").anatomy.layers
    whole = [rows_by_layer(op, layers) for op in (ma.DocumentPool(4), ma.Without({1: [0]}))]
    assert whole == [{0: 1, 1: 0, 2: 0}] * 2
    assert rows_by_layer(ma.Zero(), layers) == dict.fromkeys(range(3), layers[0].top_k)


def test_a_random_pool_is_the_model_without_the_others():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(16)
    operator = ma.DocumentPool(5, draw="random", seed=3)
    effects = ma.ablate(model, [ids], operator)
    from moeaudit.causal.operators.draws import document_key

    key = document_key(torch.as_tensor(ids)[None])
    pools = {
        layer.index: operator.pool(layer, torch.zeros(1, 1), key) for layer in model.anatomy.layers
    }
    assert len({tuple(pool.tolist()) for pool in pools.values()}) > 1
    gone = {i: (~pool).nonzero().flatten().tolist() for i, pool in pools.items()}
    assert all(len(each) == 3 for each in gone.values())
    tokens = torch.as_tensor(ids)[None]
    with torch.no_grad(), without_experts(model, gone):
        edited = model.hf(input_ids=tokens).logits[0, :-1].log_softmax(-1)
    with torch.no_grad():
        clean = model.hf(input_ids=tokens).logits[0, :-1].log_softmax(-1)
    change = (clean - edited).gather(-1, tokens[0, 1:, None]).squeeze(-1)
    np.testing.assert_allclose(effects.delta_nll, change, atol=1e-5)
    other = ma.ablate(model, [ids], ma.DocumentPool(5, draw="random", seed=4))
    assert (other.delta_nll - effects.delta_nll).abs().max() > 1e-4


def test_documents_have_pools_of_their_own():
    model = tiny_moe.load("olmoe")
    texts = [tiny_moe.ids(16, seed) for seed in (1, 2)]
    for draw in ("own", "random"):
        both = ma.ablate(model, texts, ma.DocumentPool(4, draw=draw))
        for number, ids in enumerate(texts):
            alone = ma.ablate(model, [ids], ma.DocumentPool(4, draw=draw))
            mine = both[both.document == number]
            np.testing.assert_allclose(mine.delta_nll, alone.delta_nll, atol=1e-6)


@pytest.mark.parametrize("draw", ["own", "random"])
def test_another_way_gives_the_same_numbers(draw):
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(12)
    effects = ma.ablate(model, [ids], ma.DocumentPool(4, draw=draw))
    assert effects.delta_nll.abs().max() > 1e-3
    assert ma.verify(effects, model, n=4).agrees


def test_some_layers_alone():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(12)
    one = ma.ablate(model, [ids], ma.DocumentPool(3, only=(1,)))
    every = ma.ablate(model, [ids], ma.DocumentPool(3))
    assert (one.delta_nll - every.delta_nll).abs().max() > 1e-3
    with pytest.raises(InputError, match="Leave `layers` out"):
        ma.ablate(model, [ids], ma.DocumentPool(3), layers=[1])


def _routing(model):
    layer = model.anatomy[1]
    _, seen = clean_pass(model, [layer], torch.as_tensor(tiny_moe.ids(4))[None])
    given = seen[1]
    return Routing(layer, given.index, given.weight, given.hidden, torch.arange(4))


def test_written_down_and_read_back():
    from moeaudit.causal.operators import from_dict

    operator = DocumentPool(4, only=(1, 2), draw="random", seed=7)
    assert from_dict(operator.to_dict()) == operator
    assert operator.draws and not DocumentPool(4).draws
    with pytest.raises(InputError, match="no edit of single positions"):
        operator.edits(_routing(tiny_moe.load("olmoe")))


def test_what_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(8)
    for size in (2, 9):
        with pytest.raises(InputError, match="Name from 3 .* to 8"):
            ma.ablate(model, [ids], ma.DocumentPool(size))
    for wrong in (0, 2.5, True, "all"):
        with pytest.raises(InputError, match="whole number"):
            ma.DocumentPool(wrong)
    with pytest.raises(InputError, match="draw"):
        ma.DocumentPool(4, draw="other")
    with pytest.raises(InputError, match="frozen routing is not available"):
        ma.ablate(model, [ids], ma.DocumentPool(4), frozen_routing=True)


def test_a_streamed_model_has_the_same_pools(tmp_path):
    whole, ids = tiny_moe.load("olmoe"), tiny_moe.ids(12)
    whole.hf.save_pretrained(tmp_path)
    streamed = ma.load(tmp_path, offload="stream")
    for draw in ("own", "random"):
        one, two = (ma.ablate(m, [ids], ma.DocumentPool(4, draw=draw)) for m in (whole, streamed))
        np.testing.assert_allclose(one.delta_nll, two.delta_nll, atol=1e-6)
        np.testing.assert_allclose(one.weight, two.weight, atol=1e-6)
