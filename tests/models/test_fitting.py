"""A checkpoint that its class does not fit, and models that are no causal language models."""

from __future__ import annotations

import json

import pytest
import torch
from made import tiny_moe
from safetensors.torch import load_file, save_file

import moeaudit as ma
from moeaudit.errors import ContractError, ModelError
from moeaudit.models.sources.fitting import said_in


@pytest.fixture
def folder(tmp_path):
    tiny_moe.build("olmoe").save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def say(folder, **values):
    """Change what config.json says."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change(folder, edit):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})


@pytest.mark.parametrize("offload", [None, "stream"])
class TestLeftOver:
    def test_layers_that_the_configuration_does_not_count(self, folder, offload):
        layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        say(folder, num_hidden_layers=layers - 1)
        last = layers - 1
        words = rf"belong to decoder layers {last} to {last} .*says that there are {last}"
        with pytest.raises(ModelError, match=words):
            ma.load(folder, offload=offload)

    def test_parts_of_layers_that_the_class_does_not_have(self, folder, offload):
        change(folder, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(4)}))
        with pytest.raises(
            ModelError, match=r"no place for 1 tensors .*q_proj.bias.*Another class"
        ):
            ma.load(folder, offload=offload)

    def test_scales_without_their_quantisation(self, folder, offload):
        change(
            folder,
            lambda t: t.update({"model.layers.0.self_attn.q_proj.weight_scale_inv": torch.ones(1)}),
        )
        with pytest.raises(ModelError, match="lacks its quantization_config"):
            ma.load(folder, offload=offload)

    def test_others_are_noted_with_number_and_names(self, folder, offload):
        extra = {f"vision.blocks.{i}.weight": torch.zeros(2) for i in range(5)}
        change(folder, lambda t: t.update(extra))
        model = ma.load(folder, offload=offload)
        assert any(
            "5 tensors of the checkpoint ('vision.blocks.0.weight'" in n for n in model.notes
        )
        assert "vision.blocks.0.weight" in repr(model)

    def test_a_whole_checkpoint_has_no_note(self, folder, offload):
        assert not any("no place" in note for note in ma.load(folder, offload=offload).notes)

    def test_computed_buffers_are_no_weights(self, folder, offload):
        name = "model.layers.0.self_attn.rotary_emb.inv_freq"
        change(folder, lambda t: t.update({name: torch.zeros(2)}))
        assert not any("no place" in note for note in ma.load(folder, offload=offload).notes)


def test_a_wrong_shape_names_the_tensor_and_both_shapes(folder):
    experts = json.loads((folder / "config.json").read_text())["num_experts"]
    say(folder, num_experts=experts - 2)
    with pytest.raises(
        ModelError, match=rf"'model.layers.0.mlp.*' is \({experts}, .*and \({experts - 2}, "
    ):
        ma.load(folder, offload=None)


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_what_transformers_reports_and_nobody_sees_is_said(folder, how):
    name = "model.layers.1.mlp.experts.1.up_proj.weight"

    def edit(tensors):
        whole = tensors.pop(name)
        if how == "cut":
            tensors[name] = whole[:3]

    change(folder, edit)
    with pytest.raises(ModelError) as refused:
        ma.load(folder, offload=None)
    assert "model.layers.1.mlp.experts.gate_up_proj" in str(refused.value)
    assert "above" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_report_in_one_line():
    table = "\x1b[1mX LOAD REPORT\x1b[0m\nKey | Status |\n----+------+\na.b | MISSING |\nc | MISMATCH | sizes\n"
    assert said_in(table) == "'a.b' missing; 'c' mismatch sizes"
    assert said_in("nothing of the kind") == ""


def qwen(cls: str, labels: int = 3):
    import transformers

    config = transformers.Qwen3MoeConfig(
        vocab_size=300, hidden_size=16, intermediate_size=16, moe_intermediate_size=8,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4,
        num_experts_per_tok=2, num_labels=labels, pad_token_id=0,
    )  # fmt: skip
    return getattr(transformers, cls)(config).eval()


@pytest.mark.parametrize(
    ("cls", "labels"),
    [
        ("Qwen3MoeForSequenceClassification", 3),
        ("Qwen3MoeForTokenClassification", 3),
        ("Qwen3MoeForTokenClassification", 300),
        ("Qwen3MoeForQuestionAnswering", 2),
    ],
)
def test_other_heads_are_refused_at_load(cls, labels):
    with pytest.raises(ModelError, match="classification head.*as Qwen3MoeForCausalLM"):
        ma.load(qwen(cls, labels))


def test_a_body_without_a_head_is_refused_by_name():
    with pytest.raises(ModelError, match="without its head.*Qwen3MoeForCausalLM"):
        ma.load(qwen("Qwen3MoeModel"))


def test_a_head_under_another_name_is_seen_by_its_logits():
    model = qwen("Qwen3MoeForCausalLM")
    model.lm_head = torch.nn.Linear(16, 3)
    with pytest.raises(ModelError, match=r"shape \(1, 11, 3\); one row over the vocabulary of 300"):
        ma.load(model)


def test_an_encoder_decoder_has_its_own_message(tmp_path):
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    config = SwitchTransformersConfig(
        vocab_size=100, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_decoder_layers=2, num_heads=2,
        num_experts=4, expert_capacity=64, decoder_start_token_id=0,
    )  # fmt: skip
    model = SwitchTransformersForConditionalGeneration(config)
    with pytest.raises(ModelError, match="encoder-decoder.*decoder-only"):
        ma.load(model)
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="encoder-decoder"):
        ma.load(tmp_path)


def cut(count: int, *, say_so: bool):
    """A model whose layers hold `count` experts, which they may or may not say."""
    model, kept = tiny_moe.build("olmoe"), torch.arange(count)
    for layer in model.model.layers:
        block = layer.mlp
        for module, name in (
            (block.experts, "gate_up_proj"),
            (block.experts, "down_proj"),
            (block.gate, "weight"),
        ):
            setattr(module, name, torch.nn.Parameter(getattr(module, name)[kept].detach()))
        if say_so:
            block.experts.num_experts = block.gate.num_experts = count
    model.set_experts_implementation("eager")
    return model


def test_a_stale_number_of_experts_does_not_count():
    n = tiny_moe.build("olmoe").config.num_experts - 2
    ids = [torch.as_tensor(tiny_moe.ids(12))]
    tables = []
    for say_so in (True, False):
        model = ma.load(cut(n, say_so=say_so))
        assert [layer.num_experts for layer in model.anatomy.layers] == [n] * len(
            model.anatomy.layers
        )
        assert all(layer.router_path for layer in model.anatomy.layers)
        assert any("says num_experts" in note for note in model.notes) != say_so
        trace = ma.capture(model, ids)
        tables.append(
            (ma.expert_metrics(trace, ["utilisation"]), ma.ablate(model, ids, ma.Swap("all")))
        )
    (metrics, effects), (others, again) = tables
    assert metrics.equals(others)
    assert effects["delta_nll"].equals(again["delta_nll"]) and len(effects)


def test_a_stale_number_that_breaks_the_forward_is_named():
    model = cut(tiny_moe.build("olmoe").config.num_experts - 2, say_so=False)
    model.set_experts_implementation("grouped_mm")
    with pytest.raises(ModelError, match=r"says num_experts = \d+ and holds the weights of"):
        ma.load(model)


def test_adapters_are_to_be_merged(tmp_path):
    class PeftModelForCausalLM(torch.nn.Module):
        def merge_and_unload(self):
            return None

    with pytest.raises(ModelError, match=r"LoRA adapters.*merge_and_unload\(\)"):
        ma.load(PeftModelForCausalLM())
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "allenai/OLMoE"}')
    with pytest.raises(ModelError, match="LoRA adapters .*for 'allenai/OLMoE'.*Merge"):
        ma.load(tmp_path)


def test_adapters_on_experts_are_refused_with_what_to_do():
    class Lora(torch.nn.Module):
        """Stands where the experts stood and adds to what they answer, as an adapter does."""

        def __init__(self, base):
            super().__init__()
            self.base_layer, self.lora_A = base, torch.nn.Linear(base.down_proj.shape[1], 2)

        def forward(self, hidden, index, weight):
            return self.base_layer(hidden, index, weight) + self.lora_A(hidden).sum(
                -1, keepdim=True
            )

    model = tiny_moe.build("olmoe")
    for layer in model.model.layers:
        layer.mlp.experts = Lora(layer.mlp.experts)
    with pytest.raises(ContractError, match="merge them into the weights first"):
        ma.load(model)


def test_nobody_is_told_to_install_what_is_installed():
    model = tiny_moe.build("olmoe")
    for layer in model.model.layers:
        block = layer.mlp
        block.experts.forward = lambda hidden, _f=block.experts.forward, _b=block: _f(
            hidden, *reversed(_b.gate(hidden)[1:])
        )
        block.forward = lambda hidden, _b=block: _b.experts(
            hidden.reshape(-1, hidden.shape[-1])
        ).reshape(hidden.shape)
    with pytest.raises(ContractError) as refused:
        ma.load(model)
    assert "transformers >=" not in str(refused.value)


def test_weights_that_accelerate_keeps_elsewhere_are_audited():
    accelerate = pytest.importorskip("accelerate")
    ids = [torch.as_tensor(tiny_moe.ids(9))]
    here = ma.ablate(ma.load(tiny_moe.build("olmoe")), ids)
    away = ma.load(
        accelerate.cpu_offload(tiny_moe.build("olmoe"), execution_device=torch.device("cpu"))
    )
    assert any("are brought to cpu" in note for note in away.notes)
    # The head is elsewhere, too, and is then taken in blocks of rows.
    assert (ma.ablate(away, ids)["delta_nll"] - here["delta_nll"]).abs().max() < 1e-5
