"""Loading: bundled names, folders in hub layout, objects; and everything that must be refused."""

import json
import shutil

import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import ModelError
from moeaudit.models import bundled_models


@pytest.fixture
def folder(tmp_path):
    tiny_moe.build("olmoe").save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_folder_gives_the_same_model_as_the_object(folder):
    model, built = ma.load(folder), tiny_moe.build("olmoe")
    ids = torch.as_tensor(tiny_moe.ids(9))[None]
    assert torch.equal(model.hf(input_ids=ids).logits, built(input_ids=ids).logits)
    assert model.name == "checkpoint" and model.tokenizer is None
    assert model.provenance["source"] == "folder"
    assert len(model.provenance["weights_sha256"]) == 64


def test_the_weight_hash_follows_the_weights(folder):
    before = ma.load(folder).provenance["weights_sha256"]
    assert ma.load(str(folder)).provenance["weights_sha256"] == before
    tiny_moe.build("olmoe", seed=1).save_pretrained(folder)
    assert ma.load(folder).provenance["weights_sha256"] != before
    assert (
        ma.load(tiny_moe.build("olmoe")).provenance["weights_sha256"]
        == ma.load(tiny_moe.build("olmoe")).provenance["weights_sha256"]
    )


@pytest.mark.parametrize("name", ["tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2"])
def test_bundled_models_load_without_a_network(name):
    assert name in bundled_models()
    model = ma.load(name)
    assert model.dtype == torch.float32
    assert len(model.anatomy.layers) >= 6 and model.anatomy.layers[0].num_experts >= 16
    assert model.anatomy.layers[0].top_k >= 4
    ids = model.tokenizer("The President shall be")["input_ids"]
    assert model.tokenizer.decode(ids, skip_special_tokens=True) == "The President shall be"


def test_options_are_honoured(folder):
    model = ma.load(folder, dtype="bfloat16", experts_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.experts_implementation == "eager"
    assert model.provenance["dtype"] == "bfloat16"


def test_a_loaded_model_is_handed_back():
    model = tiny_moe.load("olmoe")
    assert ma.load(model) is model


def test_wrapped_models_are_unwrapped():
    import nnsight

    built = tiny_moe.build("olmoe")
    assert ma.load(nnsight.NNsight(built)).hf is built


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tiny-olmo", "not a bundled model .*tiny-olmoe"),
        ("./nowhere/at/all", "not a folder"),
        (42, "was given a int"),
        (torch.nn.Linear(2, 2), "was given a Linear"),
    ],
)
def test_what_is_no_model_is_refused(source, message):
    with pytest.raises(ModelError, match=message):
        ma.load(source)


def test_a_hub_id_that_cannot_be_reached_is_one_paragraph(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="'nobody/nothing-here' could not be loaded") as caught:
        ma.load("nobody/nothing-here")
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_checkpoint(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no config.json"):
        ma.load(tmp_path / "empty")
    with pytest.raises(ModelError, match="is a file"):
        ma.load(folder / "config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        ma.load(folder)


def test_a_pickled_checkpoint_is_never_read(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelError, match=r"pickle \(pytorch_model.bin\)"):
        ma.load(folder)


def test_a_truncated_checkpoint_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="could not be loaded"):
        ma.load(folder)


def test_missing_weights_are_not_drawn_at_random(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.norm.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="1 missing .*model.norm.weight"):
        ma.load(folder)


def test_a_config_that_does_not_fit_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["hidden_size"] = 48
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="'checkpoint'|could not be loaded|does not fill"):
        ma.load(folder)


def test_nan_weights_name_the_tensor():
    built = tiny_moe.build("olmoe")
    with torch.no_grad():
        built.model.layers[1].mlp.experts.down_proj[3, 0, 0] = float("nan")
    with pytest.raises(ModelError, match="'model.layers.1.mlp.experts.down_proj' are NaN or"):
        ma.load(built)


def test_logits_that_overflow_are_refused():
    built = tiny_moe.build("olmoe")
    with torch.no_grad():
        built.lm_head.weight.mul_(1e38)
        built.model.norm.weight.mul_(1e4)
    with pytest.raises(ModelError, match="logits on a short text are NaN or infinite"):
        ma.load(built)


def test_an_encoder_decoder_is_refused():
    import transformers as tf

    config = tf.SwitchTransformersConfig(
        vocab_size=60,
        d_model=16,
        d_ff=16,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=2,
        d_kv=8,
        num_experts=4,
    )
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        ma.load(tf.SwitchTransformersForConditionalGeneration(config))


def test_unknown_dtype(folder):
    with pytest.raises(ModelError, match="dtype = 'float31' is unknown"):
        ma.load(folder, dtype="float31")


def test_the_repr_is_a_sentence(folder):
    text = repr(ma.load(folder))
    assert (
        "OlmoeForCausalLM, 3 decoder layers, 3 of them MoE" in text and "8 experts, top-3" in text
    )
    shutil.rmtree(folder)


@pytest.mark.parametrize("architecture", ["olmoe", "qwen2_moe"])
def test_a_transformer_lens_bridge_is_unwrapped(architecture):
    from moeaudit.causal.check.engines.transformer_lens import TransformerLensEngine

    plain = tiny_moe.load(architecture)
    bridge = TransformerLensEngine(plain).bridge
    model = ma.load(bridge)
    assert model.anatomy.indices == plain.anatomy.indices
    ids = tiny_moe.ids(9)
    got, expected = ma.ablate(model, [ids]), ma.ablate(plain, [ids])
    assert (got.expert.to_numpy() == expected.expert.to_numpy()).all()
    assert abs(got.delta_nll.to_numpy() - expected.delta_nll.to_numpy()).max() <= 1e-5


def test_a_model_object_keeps_its_mode_and_takes_no_options():
    built = tiny_moe.build("olmoe").train()
    ma.load(built)
    assert built.training
    with pytest.raises(
        ModelError, match="dtype = 'bfloat16' cannot be applied to a OlmoeForCausalLM"
    ):
        ma.load(built, dtype="bfloat16")


def test_options_that_do_not_exist_are_one_paragraph(folder):
    with pytest.raises(ModelError, match="'bogus' is not one of transformers'"):
        ma.load(folder, experts_implementation="bogus")
    with pytest.raises(ModelError, match="could not be moved to device 'cuda:9'"):
        ma.load(folder, device="cuda:9")
    with pytest.raises(ModelError, match="dtype = 'int8' is unknown"):
        ma.load(folder, dtype="int8")
    assert ma.load(folder, dtype=torch.float16).dtype == torch.float16


def test_a_forbidden_token_is_not_an_overflow():
    built = tiny_moe.build("olmoe")

    def forbid(module, args, output):
        output.logits[..., 3] = -torch.inf
        return output

    built.register_forward_hook(forbid)
    model = ma.load(built)
    effects = ma.ablate(model, [tiny_moe.ids(8)])
    assert effects.kl.gt(0).all()
