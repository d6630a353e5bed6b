"""Accounts from configurations: beside the models' own parameters, their own cache and torch's operation counter."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from made import architectures, tiny_moe
from torch.utils.flop_counter import FlopCounterMode

import moeaudit as ma
from moeaudit.errors import InputError, ModelError
from moeaudit.lab.tying import tie
from moeaudit.lab.zero import add_zero_experts

FAMILIES = ("olmoe", "qwen2_moe", "deepseek_v2", "mixtral", "gpt_oss", "deepseek_v3", "granitemoe")


@pytest.mark.parametrize(
    "architecture",
    [architectures.BY_NAME[name] for name in (*FAMILIES, "longcat_flash", "jamba", "cohere2_moe")],
    ids=lambda a: a.name,
)
def test_parts_are_all_parameters(architecture):
    model = architecture.build()
    account = ma.accounting(model)
    unique = {id(p): p.numel() for p in model.parameters()}
    assert account.parts["parameters"].sum() == account.total == sum(unique.values())
    parts = account.parts.set_index("part")
    routed = parts.loc["routed experts"]
    assert 0 < routed["active"] < routed["parameters"]
    assert account.active <= account.active_published + account.shapes.hidden * account.shapes.vocab
    assert architecture.name == "jamba" or parts.loc["attention", "parameters"] > 0


def test_olmoe_by_hand():
    # Width 32, 8 experts of inner width 24, top-3, 3 layers, 97 ids, norms of query and key.
    account = ma.accounting(tiny_moe.load("olmoe"))
    parts = account.parts.set_index("part")["parameters"]
    assert parts["embedding"] == parts["head"] == 97 * 32
    assert parts["routed experts"] == 3 * 8 * 3 * 32 * 24
    assert parts["router"] == 3 * 8 * 32
    assert parts["attention"] == 3 * (4 * 32 * 32 + 2 * 32)
    assert parts["other"] == 3 * 2 * 32 + 32
    used = account.parts.set_index("part")["active"]
    assert used["routed experts"] == 3 * 3 * 3 * 32 * 24 and used["embedding"] == 32
    assert account.active_published == account.total - 3 * 5 * 3 * 32 * 24
    assert account.cached == 3 * 2 * 32
    assert account.memory(10, 8, 4) == account.total + 3 * 2 * 32 * 10 / 2
    assert "<table" in account._repr_html_()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cache_is_what_generation_keeps(name):
    model = architectures.BY_NAME[name].build()
    account = ma.accounting(model)
    with torch.no_grad():
        cache = model(input_ids=torch.arange(6)[None] + 10, use_cache=True).past_key_values
    kept = sum(x.numel() for layer in cache.layers for x in (layer.keys, layer.values))
    assert account.cache_bytes(6, 32) == 4 * kept


@pytest.mark.parametrize("name", ["olmoe", "qwen2_moe", "deepseek_v2"])
def test_a_forward_as_torch_counts_it(name):
    model = tiny_moe.build(name)
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")
    account = ma.accounting(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(12)[None], use_cache=False)
    masked = sum(2.0 * layer.per_key * (12**2 - 12 * 13 // 2) for layer in account.shapes.layers)
    assert counter.get_total_flops() == account.flops(12) + masked
    assert sum(account.decode_flops(t) for t in range(1, 13)) == pytest.approx(account.flops(12))
    assert account.training_flops(24, 12) == 6 * account.flops(12)


def test_published_sizes():
    """Model cards: OLMoE 1.3 B of 6.9 B; DeepSeek-V2-Lite keeps 512 + 64 numbers a token and layer."""
    olmoe = ma.accounting("allenai/OLMoE-1B-7B-0924")
    assert olmoe.active_published / 1e9 == pytest.approx(1.28, abs=0.01)
    lite = ma.accounting("deepseek-ai/DeepSeek-V2-Lite")
    assert lite.cached == 27 * (512 + 64)
    assert "parameters" in repr(lite)


def test_tied_embeddings_count_once():
    account = ma.accounting(tiny_moe.build("olmoe", tie_word_embeddings=True))
    parts = account.parts.set_index("part")
    assert parts.loc["head", "parameters"] == 0 and parts.loc["head", "active"] == 97 * 32


def same(one, other):
    """Two accounts of the same model, wherever they were made from."""
    pd.testing.assert_frame_equal(one.parts, other.parts)
    sizes = ("total", "active", "active_published", "cached")
    assert [getattr(one, s) for s in sizes] == [getattr(other, s) for s in sizes]
    assert (one.flops(7), one.shapes.outside) == (other.flops(7), other.shapes.outside)
    told = [
        [(y.dense, y.routed, y.parameters, y.matrices) for y in x.shapes.layers]
        for x in (one, other)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", tiny_moe.ARCHITECTURES)
def test_a_folder_of_tied_experts_is_counted_as_the_model(name, tmp_path):
    untied = ma.accounting(tiny_moe.build(name, num_hidden_layers=5))
    hf = tiny_moe.build(name, num_hidden_layers=5)
    tie(hf, groups=[(1, 2), (3, 4)])
    account = ma.accounting(hf)
    hf.save_pretrained(tmp_path)
    same(account, ma.accounting(tmp_path))
    bank = 8 * 3 * 32 * 24
    assert account.total == untied.total - 2 * bank == hf.num_parameters()
    # A token goes through a shared bank at both of its layers.
    assert account.active == untied.active and account.flops(5) == untied.flops(5)
    assert account.active_published == untied.active_published
    assert account.shapes.outside == untied.shapes.outside == 2 * 97 * 32 + 32


@pytest.mark.parametrize("name", tiny_moe.ARCHITECTURES)
def test_a_folder_with_zero_experts_is_counted_as_the_model(name, tmp_path):
    plain = ma.accounting(tiny_moe.build(name))
    hf = add_zero_experts(tiny_moe.build(name), 3)
    account = ma.accounting(hf)
    hf.save_pretrained(tmp_path)
    same(account, ma.accounting(tmp_path))
    assert account.total == plain.total + 3 * 32 * len(account.shapes.moe)


def test_a_folder_that_ties_what_is_not_there(tmp_path):
    hf = tiny_moe.build("olmoe")
    hf.config.expert_tying = {"keys": {"model.layers.9.mlp.experts": "model.layers.1.mlp.experts"}}
    hf.config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"ties the experts at 'model.layers.9.mlp.experts'"):
        ma.accounting(tmp_path)


def test_bad_input():
    from transformers import LlamaConfig

    account = ma.accounting(tiny_moe.build("olmoe"))
    with pytest.raises(InputError, match="above 0"):
        account.flops(0)
    with pytest.raises(InputError, match="weight_bits"):
        account.memory(4, 0)
    with pytest.raises(ModelError, match="no routed experts"):
        ma.accounting(
            LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_attention_heads=2)
        )
    jamba = ma.accounting(architectures.BY_NAME["jamba"].build())
    assert jamba.cached is None and jamba.notes
    with pytest.raises(InputError, match="not every layer"):
        jamba.memory(4)
