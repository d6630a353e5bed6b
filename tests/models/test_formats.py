"""Checkpoints in the formats that people bring: loaded to the right numbers, or refused with what to do."""

import importlib.util

import pytest
import torch
from made import quantised, tiny_moe

import moeaudit as ma
from moeaudit.errors import ModelError
from moeaudit.models.placement.summary import held, packed_share

IDS = [tiny_moe.ids(9)]


def test_fp8_is_what_its_blocks_and_scales_say(tmp_path):
    meant = quantised.fp8(tmp_path)
    model = ma.load(tmp_path)
    if torch.cuda.is_available():
        pytest.skip("here the experts may stay in FP8, and no parameter is what it stands for")
    found = dict(model.hf.named_parameters())
    for i in range(3):
        at = f"model.layers.{i}.mlp.experts"
        for e in range(8):
            each = [meant[f"{at}.{e}.{name}_proj.weight"] for name in ("gate", "up", "down")]
            assert torch.equal(found[f"{at}.gate_up_proj"][e], torch.cat(each[:2]).bfloat16())
            assert torch.equal(found[f"{at}.down_proj"][e], each[2].bfloat16())
    queries = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(found[queries], meant[queries].bfloat16())
    assert_said(model, "fp8", "F8_E4M3")


def test_mxfp4_is_dequantised_and_said_so(tmp_path):
    meant = quantised.mxfp4(tmp_path)
    model = ma.load(tmp_path)
    found = dict(model.hf.named_parameters())
    assert len(meant) == 2 * model.anatomy.n_layers
    for name, value in meant.items():
        assert torch.equal(found[name], value.bfloat16()), name
    assert_said(model, "mxfp4", "U8")


def assert_said(model, method, kind):
    """The census runs, and everybody who looks is told what the numbers are."""
    effects = ma.ablate(model, IDS)
    assert "wavefront" in effects.engine and float(effects.delta_nll.abs().max()) > 1e-3
    assert f"stored quantised ({method}) and dequantised to bfloat16" in " ".join(model.notes)
    assert model.provenance["quantised"] == f"{method}, dequantised"
    lines = " ".join(held(model))
    assert f"{kind} " in lines and f"the files are by {method}, dequantised here" in lines


def test_plain_weights_say_nothing_of_it(tmp_path):
    tiny_moe.build("olmoe").bfloat16().save_pretrained(tmp_path)
    model = ma.load(tmp_path, dtype="auto")
    assert "quantised" not in model.provenance and not model.notes
    assert any(line.startswith("In the files: ") and "(BF16 " in line for line in held(model))


DECLARED = {
    "bitsandbytes": ({"load_in_4bit": True}, "bitsandbytes", "leaves stacked experts as they are"),
    "compressed-tensors": (
        {"format": "pack-quantized", "config_groups": {}, "ignore": ["lm_head"]},
        "compressed_tensors",
        "memory is that of bfloat16",
    ),
    "gptq": (
        {"bits": 4, "group_size": 128},
        "optimum",
        "quantiser of GPTQ files names no stacked experts",
    ),
    "awq": (
        {"bits": 4, "group_size": 128},
        "gptqmodel",
        "quantiser of AWQ files names no stacked experts",
    ),
}


@pytest.mark.parametrize("method", sorted(DECLARED))
def test_what_is_not_installed_is_refused_with_what_to_do(method, tmp_path):
    config, needs, advice = DECLARED[method]
    if importlib.util.find_spec(needs) is not None:
        pytest.skip(f"{needs} is installed here")
    quantised.declared(tmp_path, quant_method=method, **config)
    with pytest.raises(ModelError, match=rf"It is quantised \({method}\).*bfloat16") as caught:
        ma.load(tmp_path)
    assert advice in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of the library itself, on import
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_bitsandbytes_says_which_share_it_quantises(bits, tmp_path):
    """On its CPU backend, or on a card; attention is quantised, stacked experts stay as they are."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed here")
    from transformers import BitsAndBytesConfig

    built = tiny_moe.build("olmoe", hidden_size=64, intermediate_size=32).bfloat16()
    built.save_pretrained(tmp_path / "plain")
    config = BitsAndBytesConfig(**{bits: True})
    model = ma.load(tmp_path / "plain", quantization_config=config)
    found = dict(model.hf.named_parameters())
    experts = {name: p for name, p in built.named_parameters() if ".experts." in name}
    assert experts and all(torch.equal(found[name].cpu(), p) for name, p in experts.items())
    packed = sum(p.numel() for p in found.values() if p.dtype in (torch.int8, torch.uint8))
    assert 0.05 < packed_share(model.hf) < 0.2 and packed > 0
    (note,) = [each for each in model.notes if each.startswith("quantised (bitsandbytes")]
    assert f"{packed_share(model.hf):.0%} of its bytes are" in note
    effects = ma.ablate(model, IDS)
    assert len(effects) == 8 * 3 * 3 and ma.verify(effects, model, n=4).agrees
    # The same model as a checkpoint in that format.
    model.hf.save_pretrained(tmp_path / "packed")
    again = ma.load(tmp_path / "packed")
    assert (ma.ablate(again, IDS).delta_nll == effects.delta_nll).all()
    assert any("Quantised by bitsandbytes" in line for line in held(again))


@pytest.mark.parametrize("scheme", ["int4", "int8", "fp8"])
@pytest.mark.parametrize("name", ["olmoe", "deepseek_v2"])
def test_compressed_tensors_is_what_it_stands_for(name, scheme, tmp_path):
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed here")
    meant = quantised.compressed(tmp_path, scheme, name)
    model = ma.load(tmp_path)
    found = dict(model.hf.named_parameters())
    for i in model.anatomy.indices:
        at = f"model.layers.{i}.mlp.experts"
        for e in range(8):
            each = [meant[f"{at}.{e}.{part}_proj.weight"] for part in ("gate", "up", "down")]
            assert torch.equal(found[f"{at}.gate_up_proj"][e], torch.cat(each[:2]).bfloat16())
            assert torch.equal(found[f"{at}.down_proj"][e], each[2].bfloat16())
    attention = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(found[attention], meant[attention].bfloat16())
    assert_said(model, "compressed-tensors", "F8_E4M3" if scheme == "fp8" else "I32")


def test_a_kind_of_compressed_tensors_that_is_not_unpacked_is_refused(tmp_path):
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed here")
    quantised.compressed(tmp_path, "int8-plain")
    with pytest.raises(ModelError, match=r"does not unpack its tensors: .*experts") as caught:
        ma.load(tmp_path)
    assert "pack-quantized and float-quantized" in str(caught.value) and "\n" not in str(
        caught.value
    )


def test_a_method_that_nobody_knows_is_not_taken_for_plain_weights(tmp_path):
    quantised.declared(tmp_path, quant_method="squeezed", bits=3)
    with pytest.raises(ModelError, match=r"quantised by 'squeezed'.*knows .*gptq.*bfloat16"):
        ma.load(tmp_path)
    quantised.declared(tmp_path, bits=3)
    with pytest.raises(ModelError, match="a method that it does not name"):
        ma.load(tmp_path)


def test_a_gguf_file_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    for source in (tmp_path, tmp_path / "model-Q4_K_M.gguf"):
        with pytest.raises(ModelError) as caught:
            ma.load(source) if source.is_file() else ma.load(configured(source))
        said = str(caught.value)
        assert "GGUF" in said and "safetensors" in said and "gguf_file=" in said


def configured(folder):
    (folder / "config.json").write_text("{}")
    return folder
