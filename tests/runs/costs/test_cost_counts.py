"""Rows and operations of a census: by hand, beside torch's own counter, and the figures of the three models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made import architectures, tiny_moe
from torch.utils.flop_counter import FlopCounterMode

import moeaudit as ma
from moeaudit.errors import InputError, ModelError
from moeaudit.models.accounting.config import config_of
from moeaudit.models.accounting.known import KNOWN
from moeaudit.models.accounting.shapes import Shapes, measured_shapes, shapes_of
from moeaudit.models.find import find_anatomy
from moeaudit.runs.costs.flops import work_of

# Top-2 whatever the configuration says; zero experts that compute nothing; convolutions and scans besides.
ODD = (
    "phimoe",
    "longcat_flash",
    "jamba",
    "granitemoehybrid",
    "lfm2_moe",
    "deepseek_v32",
    "minimax",
)
THREE = {
    # rows a document of 128 tokens; TFLOP of its rows without attention; in clean forwards; head's share
    "allenai/OLMoE-1B-7B-0924": (16_256, 19.7, 65, 0.17),
    "Qwen/Qwen1.5-MoE-A2.7B": (12_192, 31.7, 52, 0.24),
    "deepseek-ai/DeepSeek-V2-Lite": (19_812, 49.4, 79, 0.17),
}


def born(shapes: Shapes) -> dict[int, int]:
    return {layer.index: layer.top_k for layer in shapes.moe}


def counted(model, ids) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False)
    return counter.get_total_flops()


def masked(shapes: Shapes, tokens: int) -> float:
    """What eager attention computes on top: whole squares of scores, of which masks take a part away."""
    total = 0.0
    for layer in shapes.layers:
        w = min(tokens, layer.window or tokens)
        total += 2.0 * layer.per_key * (tokens**2 - (w * (w + 1) // 2 + (tokens - w) * w))
    return total


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES, ids=lambda a: a.name)
def test_sizes_are_those_of_the_model_itself(architecture):
    model = architecture.build()
    shapes = measured_shapes(model, architecture.name)
    assert shapes.parameters == sum(p.numel() for p in model.parameters())
    assert sum(layer.parameters for layer in shapes.layers) + shapes.outside == shapes.parameters
    assert shapes.by_rows == (architecture.engine == "wavefront")
    found = find_anatomy(model)
    assert [layer.num_experts for layer in shapes.moe] == [y.num_experts for y in found.layers]
    if architecture.name != "phimoe":
        assert born(shapes) == {layer.index: layer.top_k for layer in found.layers}


@pytest.mark.parametrize(
    "architecture",
    [a for a in architectures.ARCHITECTURES if a.name not in ODD],
    ids=lambda a: a.name,
)
def test_a_clean_forward_as_torch_counts_it(architecture):
    model = architecture.build()
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")
    shapes = measured_shapes(model, architecture.name)
    ours = work_of(shapes, {20: 1}, {}).clean + masked(shapes, 20)
    # ernie's rotary embedding is a product as well.
    assert counted(model, torch.arange(20)[None] + 10) == pytest.approx(ours, rel=5e-4)


@pytest.mark.parametrize("name", ma.bundled_models())
def test_the_census_computes_little_more_than_it_needs(name):
    model = ma.load(name, experts_implementation="eager")
    model.hf.set_attn_implementation("eager")
    shapes = shapes_of(config_of(name))  # of the configuration, not of this model
    assert shapes.parameters == model.hf.num_parameters()
    ids = torch.arange(64)[None] + 20
    assert counted(model.hf, ids) == work_of(shapes, {64: 1}, {}).clean + masked(shapes, 64)
    document = [ids[0].numpy()]
    effects = ma.ablate(model, document, ma.Zero())  # what is found out once about a model is known
    work = work_of(shapes, {64: 1}, born(shapes))
    assert work.rows == len(effects)
    with FlopCounterMode(display=False) as counter:
        ma.ablate(model, document, ma.Zero())
    assert 1.0 <= counter.get_total_flops() / work.flops < 1.3


def test_olmoe_by_hand():
    # Width 32, 4 heads of 8, 8 experts of inner width 24, top-3, 3 layers, 97 ids; 10 tokens.
    shapes = measured_shapes(tiny_moe.load("olmoe").hf, "tiny")
    layer = 2 * (4 * 32 * 32 + 32 * 8 + 3 * (3 * 32 * 24))
    per_key, head = 2 * 4 * (8 + 8), 2 * 32 * 97
    work = work_of(shapes, {10: 2}, born(shapes))
    assert work.rows == 2 * 9 * 3 * 3
    assert work.clean == 2 * (10 * (3 * layer + head) + 3 * per_key * 55)
    # 3 rows pass layer 1 and 6 pass layer 2, at tokens 0 to 8; all 9 meet the head.
    assert work.carried == 2 * (9 * (3 * 3 * layer + 9 * head) + 9 * per_key * 45)
    assert work.head == 2 * (10 + 9 * 9) * head
    half = work_of(shapes, {10: 2}, born(shapes), 0.5)
    assert (half.rows, half.carried, half.clean) == (81, work.carried / 2, work.clean)


def test_a_window_bounds_the_keys():
    shapes = measured_shapes(tiny_moe.load("olmoe").hf, "tiny")
    narrow = replace(shapes, layers=tuple(replace(y, window=4) for y in shapes.layers))
    whole, cut = (work_of(s, {10: 1}, {}).clean for s in (shapes, narrow))
    assert whole - cut == 3 * 2 * 4 * (8 + 8) * (55 - (10 + 6 * 4))


def test_where_rows_cannot_follow_each_is_a_forward():
    shapes = measured_shapes(architectures.BY_NAME["lfm2_moe"].build(), "lfm2")
    work = work_of(shapes, {10: 1}, born(shapes))
    assert work.carried == work.rows * work.clean


@pytest.mark.parametrize("repo", THREE)
def test_the_three_models_at_their_real_size(repo):
    rows, tera, forwards, head = THREE[repo]
    shapes = shapes_of(config_of(repo))
    bare = replace(shapes, layers=tuple(replace(y, per_key=0) for y in shapes.layers))
    work = work_of(bare, {128: 1}, born(shapes))
    assert work.rows == rows
    assert work.carried / 1e12 == pytest.approx(tera, rel=2.5e-3)
    assert work.carried / work.clean == pytest.approx(forwards, abs=0.6)
    assert work.head_share == pytest.approx(head, abs=0.005)
    with_keys = work_of(shapes, {128: 1}, born(shapes))
    assert 1.0 < with_keys.flops / (work.flops) < 1.01  # attention over keys is under 1 %


@pytest.mark.parametrize("repo", KNOWN)
def test_published_configurations_give_the_published_size(repo):
    shapes = shapes_of(config_of(repo))
    assert shapes.parameters / 1e9 == pytest.approx(KNOWN[repo].total, rel=5e-3)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_is_a_part(share):
    with pytest.raises(InputError, match="above 0 and up to 1"):
        work_of(measured_shapes(tiny_moe.load("olmoe").hf, "tiny"), {10: 1}, {}, share)


def test_what_is_no_moe_or_no_language_model_is_refused():
    from transformers import LlamaConfig, ViTConfig

    small = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ModelError, match="has no routed experts"):
        shapes_of(config_of(LlamaConfig(vocab_size=20, **small)))
    with pytest.raises(ModelError, match="no causal language model"):
        shapes_of(config_of(ViTConfig()))
