"""Which heads are taken in blocks of the vocabulary, that it changes no number, and how little stands at once."""

import numpy as np
import pytest
import torch
from made import architectures, budgets, tiny_moe
from made.largest import Largest
from made.plain import removal

import moeaudit as ma
from moeaudit.causal.walk.head import roads

NUMBERS = ["delta_nll", "kl", "delta_entropy", "delta_brier", "delta_confidence", "contrast_3_7"]
ASKED = ["entropy", "brier", "confidence", ma.LogitContrast(3, 7)]


@pytest.fixture
def heads(monkeypatch):
    """What each walk found its model's head to be."""
    found = []
    real = roads.linear_head

    def noted(*given):
        found.append(real(*given))
        return found[-1]

    monkeypatch.setattr(roads, "linear_head", noted)
    return found


def by_rows(monkeypatch):
    monkeypatch.setattr(roads, "linear_head", lambda *_: None)


@pytest.mark.parametrize("horizon", [0, 3, "all"])
@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_both_roads_give_the_same_numbers(architecture, horizon, heads, monkeypatch):
    model, ids = tiny_moe.load(architecture), tiny_moe.ids(11)
    words = ma.ablate(model, [ids], horizon=horizon, outcomes=ASKED)
    assert heads and all(head is not None for head in heads)
    by_rows(monkeypatch)
    whole = ma.ablate(model, [ids], horizon=horizon, outcomes=ASKED)
    spilled = ["spill_nll", "spill_kl"] if horizon else []
    for name in [*NUMBERS, *spilled]:
        np.testing.assert_allclose(words[name], whole[name], atol=5e-6)
    for name in ["flip", *(["spill_flips", "tokens_after"] if horizon else [])]:
        assert (words[name] == whole[name]).all()
    assert words.drift == pytest.approx(whole.drift, abs=2e-6)


@pytest.mark.parametrize("horizon", [0, 3])
def test_small_blocks_give_the_same_numbers(horizon, monkeypatch):
    model, ids = tiny_moe.load("deepseek_v2"), tiny_moe.ids(9)
    whole = ma.ablate(model, [ids], horizon=horizon, outcomes=ASKED)
    budgets.use(monkeypatch, logits=3 * tiny_moe.VOCABULARY, compared=50)
    cut = ma.ablate(model, [ids], horizon=horizon, outcomes=ASKED)
    for name in NUMBERS:
        np.testing.assert_allclose(cut[name], whole[name], atol=5e-6)


def test_a_sample_takes_the_same_road(heads):
    model, ids = tiny_moe.load("olmoe"), [tiny_moe.ids(20, seed=s) for s in range(3)]
    every = ma.ablate(model, ids).set_index(["document", "position", "layer", "expert"])
    drawn = ma.ablate(model, ids, share=0.2).set_index(["document", "position", "layer", "expert"])
    assert 0 < len(drawn) < len(every) and all(head is not None for head in heads)
    both = every.loc[drawn.index]
    np.testing.assert_allclose(drawn.delta_nll, both.delta_nll, atol=5e-6)


def test_no_table_of_rows_by_vocabulary_is_made(monkeypatch):
    vocab, compared = 4001, 1 << 12
    model = ma.load(tiny_moe.build("olmoe", vocab_size=vocab))
    ids = tiny_moe.ids(12)
    budgets.use(monkeypatch, compared=compared, logits=2 * vocab)
    ma.ablate(model, [ids])  # what is found about a model is found before
    rows = (len(ids) - 1) * sum(layer.top_k for layer in model.anatomy.layers)
    wide = len(ids) * vocab  # the clean text's own logits
    with (
        Largest(lambda x: x.numel() > wide) as more,
        Largest(lambda x: x.shape[-1:] != (vocab,)) as block,
    ):
        ma.ablate(model, [ids])
    assert rows > 50 and more.numbers == 0, more.shape
    assert 0 < block.numbers <= max(compared, wide)


@pytest.mark.parametrize(
    ("name", "more"), [("granitemoe", {"logits_scaling": 4.0}), ("cohere2_moe", {})]
)
def test_scaled_heads_are_left_to_the_model(name, more, heads):
    model = ma.load(architectures.BY_NAME[name].build(**more))
    effects = ma.ablate(model, [torch.arange(20, 31)])
    assert effects.engine.startswith("wavefront") and heads and all(head is None for head in heads)
    assert ma.verify(effects, model, n=6).agrees


def test_a_hook_on_the_head_leaves_it_to_the_model(heads):
    built = tiny_moe.build("qwen2_moe")
    model, ids = ma.load(built), tiny_moe.ids(10)
    handle = built.lm_head.register_forward_hook(lambda module, args, out: 2 * torch.tanh(out / 2))
    try:
        effects = ma.ablate(model, [ids])
        assert heads and all(head is None for head in heads)
        for row in effects.sample(6, random_state=0).itertuples():
            experts = model.anatomy[row.layer].experts
            plain = removal(built, torch.as_tensor(ids)[None], experts, row.position, row.expert)
            assert abs(plain.delta_nll - row.delta_nll) <= 1e-5
    finally:
        handle.remove()


@pytest.mark.parametrize("how", ["tied", "bias"])
def test_tied_heads_and_heads_with_a_bias(how, heads):
    built = tiny_moe.build("olmoe", tie_word_embeddings=how == "tied")
    if how == "bias":
        built.lm_head.bias = torch.nn.Parameter(torch.randn(tiny_moe.VOCABULARY))
    model, ids = ma.load(built), tiny_moe.ids(10)
    effects = ma.ablate(model, [ids])
    assert heads and all(head is not None for head in heads)
    for row in effects.sample(8, random_state=0).itertuples():
        experts = model.anatomy[row.layer].experts
        plain = removal(built, torch.as_tensor(ids)[None], experts, row.position, row.expert)
        assert abs(plain.delta_nll - row.delta_nll) <= 1e-5 and abs(plain.kl - row.kl) <= 1e-5


def test_exploding_effects_are_measured_whole(heads):
    built = tiny_moe.build("olmoe")
    with torch.no_grad():
        built.lm_head.weight.mul_(400)
    model, ids = ma.load(built), tiny_moe.ids(10)
    effects = ma.ablate(model, [ids])
    assert all(head is not None for head in heads) and effects.delta_nll.abs().max() > 100
    assert np.isfinite(effects[["delta_nll", "kl"]].to_numpy()).all()
    for row in effects.sample(8, random_state=0).itertuples():
        experts = model.anatomy[row.layer].experts
        plain = removal(built, torch.as_tensor(ids)[None], experts, row.position, row.expert)
        assert row.delta_nll == pytest.approx(plain.delta_nll, abs=5e-3)


def test_in_half_precision_logits_are_not_rounded(heads, monkeypatch):
    """Beside the effects of the same hidden states in float32, those from rounded logits are off by more."""
    model, ids = ma.load(tiny_moe.build("qwen2_moe").to(torch.bfloat16)), tiny_moe.ids(12)
    words = ma.ablate(model, [ids])
    assert heads[-1] is not None and ma.verify(words, model, n=12).agrees
    by_rows(monkeypatch)
    rounded = ma.ablate(model, [ids])
    assert words.drift == pytest.approx(rounded.drift, abs=0.02)  # rounded as the model gives them
    assert 1e-4 < (words.delta_nll - rounded.delta_nll).abs().max() < 0.1


def test_the_model_is_left_as_it_was():
    model = tiny_moe.load("olmoe")
    ma.ablate(model, [tiny_moe.ids(8)])
    for module in model.hf.modules():
        assert "forward" not in module.__dict__
        assert not module._forward_hooks and not module._forward_pre_hooks
