"""Zero experts: rows of the router, picks that compute nothing, checkpoints, and the audit of all that."""

import copy

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError, ModelError
from moeaudit.lab import zero
from moeaudit.models.experts.zero import MARK, ZeroExperts, blocks_of


def added(architecture, count=4, **options):
    changes = options.pop("changes", {})
    hf = tiny_moe.build(architecture, **changes)
    return zero.add_zero_experts(hf, count, weight=1.0, **options)


def tokens(length=14, seed=0):
    return torch.as_tensor(tiny_moe.ids(length, seed))[None]


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_the_contract_is_kept_and_a_zero_pick_is_worth_nothing(architecture, tmp_path):
    hf = added(architecture)
    model = ma.load(hf)
    assert {layer.num_experts for layer in model.anatomy.layers} == {12}
    assert not model.anatomy.notes
    trace = ma.capture(model, [tiny_moe.ids(14)])
    on_zero = trace.routing.expert >= 8
    assert 0.05 < on_zero.mean() < 0.95
    assert (trace.routing.output_norm[on_zero] == 0).all()
    assert (trace.routing.output_norm[~on_zero] > 0).all()
    effects = ma.ablate(model, [tiny_moe.ids(14)])
    nobody = effects[effects.expert >= 8]
    assert len(nobody) and (nobody.delta_nll == 0).all() and (nobody.kl == 0).all()
    assert effects.delta_nll.abs().max() > 1e-2
    assert ma.verify(effects, model, n=4).agrees
    hf.save_pretrained(tmp_path)
    again = ma.load(tmp_path)
    assert again.anatomy.layers[0].num_experts == 12
    assert torch.equal(again.hf(tokens()).logits, hf(tokens()).logits)
    streamed = ma.load(tmp_path, offload="stream")
    torch.testing.assert_close(streamed.hf(tokens()).logits, hf(tokens()).logits)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_no_implementation_meets_an_index_beyond_its_experts(implementation):
    hf = added("olmoe")
    block, layer = blocks_of(hf)[1], ma.load(hf).anatomy[1]
    hidden = torch.randn(9, 32)
    _, weight, index = block.router(hidden)
    assert (index >= 8).any()
    hf.set_experts_implementation(implementation)
    plain = copy.deepcopy(tiny_moe.build("olmoe").model.layers[1].mlp.experts)
    by_hand = torch.zeros_like(hidden)
    for t in range(9):
        for e, w in zip(index[t].tolist(), weight[t]):
            if e < 8:
                gate, up = (plain.gate_up_proj[e] @ hidden[t]).chunk(2)
                by_hand[t] += w * (plain.down_proj[e] @ (torch.nn.functional.silu(gate) * up))
    torch.testing.assert_close(layer.experts(hidden, index, weight), by_hand, atol=1e-5, rtol=1e-4)


def test_new_rows_are_drawn_like_the_old_ones():
    hf = tiny_moe.build("olmoe", num_experts=64, hidden_size=256)
    before = [block.router.weight.detach().clone() for block in blocks_of(hf)]
    with torch.no_grad():
        for block in blocks_of(hf):
            block.router.weight.add_(torch.linspace(-1, 1, 256))  # a mean of its own each
    old = [block.router.weight.detach().clone() for block in blocks_of(hf)]
    zero.add_zero_experts(hf, 64, weight=1.0, seed=1)
    for block, was, first in zip(blocks_of(hf), old, before):
        assert torch.equal(block.router.weight[:64], was) and not torch.equal(was, first)
        new = block.router.weight[64:].detach()
        assert float((new.mean(0) - was.mean(0)).abs().max()) < 5 * float(was.std(0).max()) / 8
        np.testing.assert_allclose((new.std(0) / was.std(0)).mean(), 1.0, atol=0.05)
    again, other = (
        zero.add_zero_experts(
            tiny_moe.build("olmoe", num_experts=64, hidden_size=256), 64, weight=1.0, seed=seed
        )
        for seed in (1, 2)
    )
    assert not torch.equal(blocks_of(again)[0].router.weight, blocks_of(other)[0].router.weight)


def test_a_correction_bias_is_extended_the_same_way():
    import transformers as tf

    torch.manual_seed(0)
    sizes = dict(intermediate_size=48, moe_intermediate_size=24, num_key_value_heads=4)
    latent = dict(
        kv_lora_rank=16, q_lora_rank=None, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8
    )
    routed = dict(
        n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1
    )
    hf = tf.DeepseekV3ForCausalLM(
        tf.DeepseekV3Config(**tiny_moe.COMMON | sizes | latent | routed)
    ).eval()
    with torch.no_grad():
        for block in blocks_of(hf):
            block.router.weight.normal_()
            block.router.e_score_correction_bias.normal_(1.0, 0.1)
    zero.add_zero_experts(hf, 4, weight=1.0)
    for block in blocks_of(hf):
        bias = block.router.e_score_correction_bias
        assert bias.shape == (12,) and 0.5 < float(bias[8:].min()) <= float(bias[8:].max()) < 1.5
    model = ma.load(hf)
    effects = ma.ablate(model, [tiny_moe.ids(14)])
    nobody = effects[effects.expert >= 8]
    assert model.anatomy.layers[0].num_experts == 12
    assert len(nobody) and (nobody.delta_nll == 0).all()


def test_weights_of_the_other_picks_by_each_rule():
    answers = {}
    for rule in ("own", "selected", "non-zero"):
        block = blocks_of(added("olmoe", weights=rule, seed=3))[0]
        torch.manual_seed(5)
        answers[rule] = block.router(torch.randn(40, 32))
    _, own, index = answers["own"]
    real = index < 8
    mixed = real.any(1) & ~real.all(1)
    assert mixed.any() and (own.sum(1) < 1).all()
    selected, given = answers["selected"][1], answers["non-zero"][1]
    torch.testing.assert_close(selected, own / own.sum(1, keepdim=True))
    assert (given[~real] == 0).all()
    torch.testing.assert_close(given.sum(1)[mixed], own.sum(1)[mixed])
    assert (given[real & mixed[:, None]] > own[real & mixed[:, None]]).all()
    # A model of any rule keeps the contract: its routed output is the weighted sum of its picks.
    for rule in answers:
        assert ma.load(added("olmoe", weights=rule)).anatomy.layers[0].num_experts == 12


def test_half_of_the_top_k():
    hf = zero.half_top_k(tiny_moe.build("qwen2_moe", num_experts_per_tok=4))
    assert ma.load(hf).anatomy.layers[0].top_k == 2 and hf.config.num_experts_per_tok == 2
    with pytest.raises(InputError, match="even"):
        zero.half_top_k(tiny_moe.build("olmoe"))


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match="Add at most 8 with weight 2"):
        zero.add_zero_experts(tiny_moe.build("olmoe"), 9)  # 3 of 8: 9 would leave 0.92 of an expert
    with pytest.raises(InputError, match="nothing to skip but everything"):
        zero.add_zero_experts(tiny_moe.build("olmoe", num_experts_per_tok=1), 1)
    with pytest.raises(InputError, match="at least 1"):
        zero.add_zero_experts(tiny_moe.build("olmoe"), 0)
    with pytest.raises(ModelError, match="added once"):
        zero.add_zero_experts(added("olmoe"), 2)
    grouped = tiny_moe.build(
        "deepseek_v2", topk_method="group_limited_greedy", n_group=4, topk_group=2
    )
    with pytest.raises(ModelError, match="groups"):
        zero.add_zero_experts(grouped, 4)
    with pytest.raises(ModelError, match="no fused experts"):
        blocks_of(torch.nn.Linear(3, 3))
    hf = added("olmoe")
    setattr(hf.config, MARK, {"count": "four"})
    hf.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="zero_experts = "):
        ma.load(tmp_path)
    assert ZeroExperts.of(tiny_moe.build("olmoe").config) is None
