"""Checkpoints without the pruned experts: what they compute, and what cannot be written."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made.architectures import BY_NAME
from made.tiny_run import save

import moeaudit as ma
from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.models.router import without_experts
from moeaudit.pruning.export import checkpoint as export_module

TARGETS = ["olmoe", "qwen2_moe", "deepseek_v2", "mixtral", "deepseek_v3", "qwen3_moe", "gpt_oss"]


@functools.cache
def tiny(name: str) -> ma.Model:
    return ma.load(BY_NAME[name].build())


def some(model: ma.Model, number: int, seed: int = 0) -> dict[int, list[int]]:
    rng = np.random.default_rng(seed)
    return {
        layer.index: sorted(rng.permutation(layer.num_experts)[:number].tolist())
        for layer in model.anatomy.layers
    }


def gone(model: ma.Model, keep: dict[int, list[int]]) -> dict[int, list[int]]:
    return {
        layer.index: [e for e in range(layer.num_experts) if e not in keep[layer.index]]
        for layer in model.anatomy.layers
    }


def text(tokens: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(3, 300, (2, tokens)))


@pytest.mark.parametrize("name", TARGETS)
def test_what_transformers_reads_back_is_the_masked_model(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, ids = tiny(name), text()
    keep = some(model, 5)
    with torch.no_grad():
        before = model.hf(input_ids=ids).logits
    folder = ma.export_pruned(model, keep, tmp_path / "pruned")
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad(), without_experts(model, gone(model, keep)):
        masked = model.hf(input_ids=ids).logits
    with torch.no_grad():
        written = plain(input_ids=ids).logits
    assert float((written - masked).abs().max()) <= 1e-5
    assert float((masked - before).abs().max()) > 1e-2  # the experts did matter
    with torch.no_grad():
        again = model.hf(input_ids=ids).logits
    assert torch.equal(again, before)  # the source is untouched
    loaded = ma.load(folder)
    assert {layer.num_experts for layer in loaded.anatomy.layers} == {5}
    facts = json.loads((folder / "moeaudit_pruned.json").read_text("utf-8"))
    assert facts["kept"] == {str(layer): kept for layer, kept in keep.items()}
    assert facts["largest_logit_difference"] <= 1e-5
    assert sum(p.numel() for p in plain.parameters()) < model.hf.num_parameters()
    assert [p.name for p in tmp_path.iterdir()] == ["pruned"]


def test_groups_of_one_size_are_written_and_others_refused(tmp_path: Path) -> None:
    model = ma.load(BY_NAME["deepseek_v3"].build(n_group=2, topk_group=1))
    even = {layer.index: [0, 2, 3, 4, 5, 7] for layer in model.anatomy.layers}
    ma.export_pruned(model, even, tmp_path / "even")
    uneven = {layer.index: [0, 1, 2, 3, 4, 5] for layer in model.anatomy.layers}
    with pytest.raises(InputError, match="groups would keep 4, 2"):
        ma.export_pruned(model, uneven, tmp_path / "uneven")
    assert [p.name for p in tmp_path.iterdir()] == ["even"]


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    model = ma.load(BY_NAME["qwen2_moe"].build(tie_word_embeddings=True))
    keep = some(model, 4)
    loaded = ma.load(ma.export_pruned(model, keep, tmp_path / "tied")).hf
    head, embedding = loaded.get_output_embeddings(), loaded.get_input_embeddings()
    assert head.weight.data_ptr() == embedding.weight.data_ptr()


def test_half_precision_keeps_its_precision(tmp_path: Path) -> None:
    model = ma.load(BY_NAME["olmoe"].build().bfloat16())
    written = ma.load(ma.export_pruned(model, some(model, 4), tmp_path / "half"), dtype="auto")
    assert written.dtype == torch.bfloat16


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    model = ma.load(save(tmp_path / "source"))
    written = ma.load(ma.export_pruned(model, some(model, 3), tmp_path / "pruned"))
    sentence = "The router sends every token to a few experts."
    assert written.tokenizer(sentence)["input_ids"] == model.tokenizer(sentence)["input_ids"]


def test_a_curve_says_what_to_keep(tmp_path: Path) -> None:
    model = tiny("olmoe")
    docs = [np.random.default_rng(seed).integers(3, 300, 9) for seed in range(6)]
    curve = ma.prune_curve(model, docs[:3], ["reap"], 0.5, calibration=docs[3:])
    folder = ma.export_pruned(model, curve.kept("reap", 0.5), tmp_path / "reap")
    nll = [
        float(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum"))
        for ids in (torch.from_numpy(d)[None] for d in docs[:3])
        for logits in [ma.load(folder).hf(input_ids=ids).logits.detach()]
    ]
    reap = curve.table[curve.table["criterion"] == "reap"]
    assert sum(nll) / 24 == pytest.approx(reap["nll"].item(), abs=1e-5)
    with pytest.raises(InputError, match="It ran criterion: reap"):
        curve.kept("ean", 0.5)


def test_what_no_configuration_can_say_is_refused(tmp_path: Path) -> None:
    model = tiny("olmoe")
    keep = some(model, 5)
    with pytest.raises(InputError, match="one number for all layers"):
        ma.export_pruned(model, keep | {2: [0, 1, 2, 3]}, tmp_path / "a")
    with pytest.raises(InputError, match="one number for all layers"):
        ma.export_pruned(model, {0: keep[0]}, tmp_path / "a")  # the others keep all eight
    with pytest.raises(InputError, match="need 3 each"):
        ma.export_pruned(model, some(model, 2), tmp_path / "a")
    with pytest.raises(InputError, match="expert 8 does not exist"):
        ma.export_pruned(model, keep | {1: [0, 1, 2, 3, 8]}, tmp_path / "a")
    with pytest.raises(InputError, match="Layer 9"):
        ma.export_pruned(model, keep | {9: [0, 1, 2, 3, 4]}, tmp_path / "a")
    with pytest.raises(ModelError, match="states the number of experts under none"):
        longcat = ma.load(BY_NAME["longcat_flash"].build())
        ma.export_pruned(longcat, some(longcat, 6), tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        ma.export_pruned(tiny("olmoe"), some(tiny("olmoe"), 5), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_checkpoint_that_does_not_match_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("olmoe")
    wrong = some(model, 5, seed=1)
    build = export_module.smaller_model
    monkeypatch.setattr(export_module, "smaller_model", lambda m, c, _keep: build(m, c, wrong))
    with pytest.raises(ModelError, match="differ from the masked model's"):
        ma.export_pruned(model, some(model, 5), tmp_path / "pruned")
    assert not any(tmp_path.iterdir())
