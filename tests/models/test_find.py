"""The router contract: what is found, and what is refused by name."""

import pytest
import torch
from made import architectures, tiny_moe
from torch import nn

import moeaudit as ma
from moeaudit.errors import ContractError, InputError, ModelError
from moeaudit.models.contract import check_call, declared_moe_layers, slot_contributions
from moeaudit.models.contract.probe import run_probe

ROUTERS = {
    "mixtral": "model.layers.0.mlp.gate",
    "gpt_oss": "model.layers.0.mlp.router",
    "granitemoe": "model.layers.0.block_sparse_moe.router",
    "jamba": "model.layers.1.feed_forward.router",
    "deepseek_v3": "model.layers.1.mlp.gate",
}


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES, ids=lambda a: a.name)
def test_the_experts_and_router_of_every_layer_are_found(architecture):
    model = ma.load(architecture.build())
    for layer in model.anatomy.layers:
        assert model.hf.get_submodule(layer.experts_path) is layer.experts
        assert layer.experts_path.startswith(f"{model.anatomy.layers_path}.{layer.index}.")
        assert layer.num_experts >= 8 and layer.top_k in (2, 3)
    if architecture.name in ROUTERS:
        assert model.anatomy.layers[0].router_path == ROUTERS[architecture.name]


def test_a_dense_layer_keeps_its_number():
    assert tiny_moe.load("deepseek_v2").anatomy.indices == [1, 2]
    assert ma.load(architectures.BY_NAME["qwen2_moe"].build()).anatomy.indices == [0, 2, 3]


def test_whether_weights_sum_to_one_is_measured():
    assert not tiny_moe.load("olmoe").anatomy.layers[0].weights_sum_to_one
    assert ma.load(architectures.BY_NAME["mixtral"].build()).anatomy.layers[0].weights_sum_to_one


def test_slots_sum_to_the_routed_output():
    probe = run_probe(tiny_moe.build("olmoe"))
    assert len(probe.calls) == 3
    for call in probe.calls:
        slots = slot_contributions(call.module, call.hidden, call.index, call.weight)
        torch.testing.assert_close(slots.sum(1), call.output, atol=1e-6, rtol=1e-5)


def test_unknown_layers_name_the_known_ones():
    anatomy = tiny_moe.load("deepseek_v2").anatomy
    assert anatomy[2].index == 2
    with pytest.raises(InputError, match=r"dense layer.*\[1, 2\]"):
        anatomy[0]
    with pytest.raises(InputError, match="does not exist"):
        anatomy[3]


def test_a_dense_model_is_no_moe():
    import transformers as tf

    sizes = dict(vocab_size=50, hidden_size=16, intermediate_size=16, num_attention_heads=2)
    dense = tf.LlamaForCausalLM(tf.LlamaConfig(num_hidden_layers=2, eos_token_id=2, **sizes))
    with pytest.raises(ModelError, match="LlamaForCausalLM is not a Mixture-of-Experts model"):
        ma.load(dense)


def test_llama4_is_refused_with_layer_and_class():
    import transformers as tf

    config = tf.Llama4TextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=16, intermediate_size_mlp=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, num_local_experts=4, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with pytest.raises(
        ContractError, match=r"layer \d.*Llama4TextExperts.*experts\(hidden, top_k_index"
    ):
        ma.load(architectures.widen(tf.Llama4ForCausalLM(config)))


class _Skipping(nn.Module):
    """A block that never calls its experts: a layer that would be left out of the audit."""

    def __init__(self, block):
        super().__init__()
        self.experts, self.gate = block.experts, block.gate

    def forward(self, hidden):
        return hidden


def test_a_layer_that_never_calls_its_experts_is_refused():
    built = tiny_moe.build("olmoe")
    built.model.layers[1].mlp = _Skipping(built.model.layers[1].mlp)
    with pytest.raises(
        ContractError,
        match=r"layer 1: OlmoeExperts at 'model.layers.1.mlp.experts' was never called",
    ):
        ma.load(built)


class _Dense(nn.Module):
    def forward(self, hidden):
        return hidden


def test_a_declared_layer_without_experts_is_refused():
    built = tiny_moe.build("qwen2_moe")
    built.model.layers[2].mlp = _Dense()
    with pytest.raises(ContractError, match=r"declares MoE layers \[0, 1, 2\], but layers \[2\]"):
        ma.load(built)


class _OldStyle(nn.Module):
    """A list of expert modules, as transformers 4 had them."""

    def __init__(self, width):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden):
        return sum(expert(hidden) for expert in self.experts)


def test_a_list_of_experts_is_refused():
    built = tiny_moe.build("olmoe")
    for layer in built.model.layers:
        layer.mlp = _OldStyle(32)
    with pytest.raises(ContractError, match=r"layer 0: ModuleList at 'model.layers.0.mlp.experts'"):
        ma.load(built)


class _Normed(nn.Module):
    """Experts inside a module that changes their output: which of the two is the layer's?"""

    def __init__(self, experts):
        super().__init__()
        self.inner, self.num_experts = experts, experts.num_experts

    def forward(self, hidden, index, weight):
        out = self.inner(hidden, index, weight)
        return out / out.norm(dim=-1, keepdim=True)


def test_experts_within_experts_are_refused():
    built = tiny_moe.build("olmoe")
    built.model.layers[0].mlp.experts = _Normed(built.model.layers[0].mlp.experts)
    with pytest.raises(ContractError, match="layer 0 calls two groups of routed experts"):
        ma.load(built)


def test_slots_that_do_not_add_up_are_refused():
    probe = run_probe(tiny_moe.build("olmoe"))
    call = probe.calls[0]
    check_call("Olmoe", 0, call, probe)
    call.output = call.output / call.output.norm(dim=-1, keepdim=True)
    with pytest.raises(
        ContractError, match="Olmoe, layer 0, OlmoeExperts at .* is not the weighted sum"
    ):
        check_call("Olmoe", 0, call, probe)


def test_tokens_that_are_dropped_or_reordered_are_refused():
    probe = run_probe(tiny_moe.build("olmoe"))
    call = probe.calls[0]
    call.index, call.weight, call.hidden = call.index[:-1], call.weight[:-1], call.hidden[:-1]
    with pytest.raises(ContractError, match="called with 10 rows for a document of 11 tokens"):
        check_call("Olmoe", 0, call, probe)


def test_declared_layers_by_convention():
    from types import SimpleNamespace as Config

    assert declared_moe_layers(Config(mlp_layer_types=["dense", "sparse", "sparse"]), 3) == [1, 2]
    assert declared_moe_layers(Config(decoder_sparse_step=2, mlp_only_layers=[1]), 4) == [3]
    assert declared_moe_layers(Config(first_k_dense_replace=1, moe_layer_freq=2), 5) == [2, 4]
    assert declared_moe_layers(Config(), 3) is None
