"""Budgets, devices and options of placement, and checkpoints that are broken: one paragraph each."""

import json

import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import ModelError
from moeaudit.models.placement.fits import size_of
from moeaudit.models.placement.stream import stream_of

IDS = [tiny_moe.ids(12)]


@pytest.fixture
def folder(tmp_path):
    tiny_moe.build("olmoe").save_pretrained(tmp_path / "checkpoint", max_shard_size="20KB")
    return tmp_path / "checkpoint"


def test_a_model_that_does_not_fit_is_streamed_and_says_so(folder):
    whole = ma.load(folder)
    assert stream_of(whole.hf) is None
    size = sum(p.numel() * 4 for p in whole.hf.parameters())
    assert stream_of(ma.load(folder, max_memory=size).hf) is None
    model = ma.load(folder, max_memory=size - 1)
    assert stream_of(model.hf) is not None and "are streamed" in repr(model)
    assert (ma.ablate(model, IDS).delta_nll == ma.ablate(whole, IDS).delta_nll).all()


def test_a_budget_below_one_layer_is_refused_with_the_least(folder):
    with pytest.raises(
        ModelError, match=r"needs at least 0\.\d+ MiB for weights .* one decoder layer"
    ):
        ma.load(folder, max_memory="64KB")
    with pytest.raises(ModelError, match=r"are free on cpu\. Leave offload at 'auto' to stream"):
        ma.load(folder, max_memory={"cpu": "64KB"}, offload=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_memory": "much"}, "is not a size of memory"),
        ({"max_memory": 0}, "is not a size of memory"),
        ({"max_memory": {"gpu": "1GiB"}}, "names no size for 'cpu'"),
        ({"max_memory": float("nan")}, "is not a size of memory"),
        ({"offload": "disk"}, "Choose one of auto, stream, none"),
        ({"device_map": "everywhere"}, "could not be placed by device_map = 'everywhere'"),
        ({"device_map": {"nosuch": "cpu"}}, "places 'nosuch', and .* has no module of that name"),
        ({"quantization_config": "4bit"}, "none of transformers' configurations"),
        ({"quantization_config": {"load_in_4bit": True}}, "none of transformers' configurations"),
        ({"device": "cpu", "device_map": "auto"}, "both say where"),
        ({"device_map": "auto", "offload": "stream"}, "spreads them"),
        ({"device_map": "auto", "max_memory": "1GiB"}, "Give sizes by device"),
    ],
)
def test_options_that_cannot_be(folder, options, said):
    with pytest.raises(ModelError, match=said):
        ma.load(folder, **options)


def test_a_device_that_is_not_there(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ModelError, match=r"'cuda'.*Use one that torch sees: cpu"):
        ma.load(folder, device="cuda", offload="stream")


def test_sizes():
    assert size_of("12GiB") == 12 * 2**30 and size_of("1.5 GB") == 1_500_000_000
    assert size_of(1000) == 1000 and size_of("64kb") == 64_000


@pytest.mark.parametrize("offload", ["auto", "stream"])
def test_a_missing_shard_and_a_cut_one_are_named(folder, offload):
    third = sorted(folder.glob("*.safetensors"))[2]
    third.write_bytes(third.read_bytes()[:-8])
    with pytest.raises(ModelError, match=f"{third.name}' ends after .* the file was cut"):
        ma.load(folder, offload=offload)
    third.unlink()
    with pytest.raises(ModelError, match=f"1 are absent .*'{third.name}'"):
        ma.load(folder, offload=offload)


def test_a_configuration_of_other_weights_is_refused(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(ModelError, match=r"does not fit its configuration: '.*experts"):
        ma.load(folder, offload="stream")
    path.write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ModelError, match=r"missing \(first: 'model\.layers\.3"):
        ma.load(folder, offload="stream")


def test_a_quantisation_that_is_not_installed_is_refused(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(
        ModelError, match=r"It is quantised \(gptq\).*take the same model in bfloat16"
    ):
        ma.load(folder)
    with pytest.raises(ModelError, match="only plain weights are streamed"):
        ma.load(folder, offload="stream")


def test_gguf_is_refused_with_what_to_do(folder):
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (folder / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"as GGUF \(model\.gguf\).*Use the model in safetensors"):
        ma.load(folder)


def test_a_model_of_the_hub_streams_from_the_cache(folder, tmp_path, monkeypatch):
    """The cache as huggingface_hub lays it out, and no network."""
    from huggingface_hub import constants

    commit = "a" * 40
    home = tmp_path / "hub" / "models--allenai--OLMoE-1B-7B-0924"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    (home / "snapshots").mkdir()
    tiny = ma.bundled_models()[0]
    folder.rename(home / "snapshots" / commit)
    ma.load(tiny).tokenizer.save_pretrained(home / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for offload in ("auto", "stream"):
        model = ma.load("allenai/OLMoE-1B-7B-0924", revision="main", offload=offload)
        assert model.provenance["revision"] == commit
        assert model.provenance["source"] == "hub:allenai/OLMoE-1B-7B-0924"
        assert len(model.provenance["weights_sha256"]) == 64
        assert len(ma.ablate(model, IDS)) == 11 * 3 * 3
