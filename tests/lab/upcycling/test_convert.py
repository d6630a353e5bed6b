"""A dense model becomes a mixture of the same function; what cannot is refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made import tiny_llama

import moeaudit as ma
from moeaudit.errors import InputError, ModelError
from moeaudit.lab.upcycling import expert_distances, upcycle
from moeaudit.lab.upcycling.held_out import by_domain

TEXTS = tiny_llama.texts()
ROWS = [("text", torch.from_numpy(ids)) for ids in TEXTS]


def mixture(dense=None, **how):
    how = {"experts": 4, "top_k": 2, "layers": [1, 2], "text": TEXTS, **how}
    return upcycle(dense or tiny_llama.build(), **how)


@pytest.mark.parametrize("shared", ["silent", "half"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_perplexity_is_that_of_the_dense_model(shared, top_k):
    dense = tiny_llama.build()
    model = mixture(dense, shared=shared, top_k=top_k)
    before, after = by_domain(dense, ROWS)["all"], by_domain(model, ROWS)["all"]
    assert math.exp(after) == pytest.approx(math.exp(before), rel=1e-6)
    assert expert_distances(model).distance.eq(0).all()
    assert [hasattr(layer.mlp, "experts") for layer in model.model.layers] == [False, True, True]


def test_biases_untied_heads_and_wide_heads_come_along():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    dense = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, tie_word_embeddings=False)).eval()
    with torch.no_grad():
        for name, parameter in dense.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    model = mixture(dense, layers="all", router="random")
    ids = torch.from_numpy(TEXTS[0])[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, dense(ids).logits, atol=1e-5)
    assert model.model.layers[0].self_attn.q_proj.bias.abs().sum() > 0


def test_any_swap_changes_nothing_and_another_expert_does_all_the_work():
    loaded = ma.load(mixture())
    read = TEXTS[:3]
    removed = ma.ablate(loaded, read, ma.Zero())
    for operator in (ma.Swap("all"), ma.Renormalize(), ma.Reroute()):
        effects = ma.ablate(loaded, read, operator)
        assert effects.delta_nll.abs().max() < 1e-6 and not effects.flip.any()
        assert 1 - effects.kl.mean() / removed.kl.mean() == pytest.approx(1, abs=1e-5)
    assert removed.kl.mean() > 1e-4


def test_it_saves_loads_and_audits_from_the_folder(tmp_path):
    model = mixture()
    model.save_pretrained(tmp_path)
    loaded = ma.load(tmp_path)
    assert [layer.index for layer in loaded.anatomy.layers] == [1, 2]
    assert all(layer.weights_sum_to_one for layer in loaded.anatomy.layers)
    ids = torch.from_numpy(TEXTS[0])[None]
    with torch.no_grad():
        assert torch.equal(loaded.hf(ids).logits, model(ids).logits)


def test_a_folder_of_a_dense_model_is_read(tmp_path):
    dense = tiny_llama.build()
    dense.save_pretrained(tmp_path)
    model = mixture(tmp_path, router="random")
    assert by_domain(model, ROWS)["all"] == pytest.approx(by_domain(dense, ROWS)["all"], rel=1e-6)


def test_the_half_expert_is_worth_half_the_block():
    """Without the shared expert half of the MLP is left; without the routed ones the other half."""
    loaded = ma.load(mixture(shared="half"))
    shared = ma.ablate(loaded, TEXTS[:2], ma.SharedExpert())
    routed = ma.ablate(loaded, TEXTS[:2], ma.Coalitions((2,)))
    both = shared.merge(routed, on=["document", "position", "layer"], suffixes=("", "_routed"))
    assert len(both) == len(shared) == len(routed)
    assert np.allclose(both.delta_nll, both.delta_nll_routed, atol=1e-5)


def test_reinitialised_units_are_the_share_that_was_asked_for():
    half, none = mixture(reinitialise=0.5), mixture()
    for changed, kept in zip(half.model.layers[1:], none.model.layers[1:]):
        old, new = kept.mlp.experts.down_proj, changed.mlp.experts.down_proj
        moved = (old != new).any(1)  # (experts, inner units)
        assert moved.sum(1).tolist() == [24] * 4
        assert not torch.equal(moved[0], moved[1])
    found = expert_distances(half).distance
    # Two experts share a quarter of their units; of the rest at least one is new.
    assert found.between(0.9, 1.45).all()


WRONG = [
    ({"experts": 1}, InputError, "at least two"),
    ({"top_k": 5}, InputError, "expected 1 to 4"),
    ({"layers": [3]}, InputError, "no layer 3: this model has layers 0 to 2"),
    ({"layers": [1, 1]}, InputError, "twice"),
    ({"layers": []}, InputError, "expected 'all' or a list"),
    ({"layers": "some"}, InputError, "expected 'all' or a list"),
    ({"router": "hash"}, InputError, "router"),
    ({"shared": "full"}, InputError, "shared expert"),
    ({"reinitialise": 1.5}, InputError, "share from 0 to 1"),
    ({"text": None}, InputError, "tokenizer="),
    ({"text": [[1, 2, 3]], "experts": 8}, InputError, "fewer than 8 different states"),
]


@pytest.mark.parametrize(("how", "error", "words"), WRONG)
def test_numbers_that_do_not_fit(how, error, words):
    with pytest.raises(error, match=words):
        mixture(**how)


def test_models_that_are_not_contained():
    from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    normed = Qwen3ForCausalLM(Qwen3Config(**sizes, **heads, head_dim=8))
    with pytest.raises(ModelError, match="no place for model.layers.0.self_attn.q_norm"):
        mixture(normed, router="random")
    windowed = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=8))
    with pytest.raises(ModelError, match="within a window"):
        mixture(windowed)
    with pytest.raises(ModelError, match="no place for model.layers.0.self_attn.o_proj.bias"):
        mixture(tiny_llama.build(attention_bias=True), router="random")
    with pytest.raises(ModelError, match="cannot be upcycled"):
        mixture(object())
    with pytest.raises(InputError, match="no folder of a dense model"):
        mixture("/nowhere")


def test_a_model_of_another_function_is_refused_by_measurement():
    """Its weights fit, but it scales its logits: nothing in the names says so."""
    dense = tiny_llama.build()
    dense.lm_head.register_forward_hook(lambda _m, _a, out: 2 * out)
    with pytest.raises(ModelError, match="the function is another: logits differ by 0.5"):
        mixture(dense, router="random")
