"""One hash for one checkpoint, by whatever route it comes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made import tiny_moe

import moeaudit as ma


def hash_of(source, **options):
    return ma.load(source, **options).provenance["weights_sha256"]


@pytest.mark.parametrize("architecture", ["olmoe", "qwen2_moe", "deepseek_v2"])
def test_folder_and_object_have_the_same_hash(tmp_path, architecture):
    built = tiny_moe.build(architecture)
    built.save_pretrained(tmp_path)
    assert hash_of(tmp_path) == hash_of(built)
    assert hash_of(tmp_path) != hash_of(tiny_moe.build(architecture, seed=1))


def test_the_hash_does_not_move_with_dtype_or_shards(tmp_path):
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    built = tiny_moe.build("olmoe")
    built.save_pretrained(whole)
    built.save_pretrained(shards, max_shard_size="100KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert hash_of(whole) == hash_of(whole, dtype="bfloat16") == hash_of(shards)
    shutil.copy(whole / "model.safetensors", whole / "consolidated.safetensors")
    assert hash_of(whole) == hash_of(shards)  # a copy that is not read does not count


def test_the_hash_follows_bytes_names_and_kinds(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_moe.build("olmoe").save_pretrained(tmp_path)
    before = hash_of(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    assert hash_of(tmp_path) != before
    tensors["model.norm.weight"][0] -= 1
    save_file(tensors, file, metadata={"format": "pt", "note": "other words"})
    assert hash_of(tmp_path) == before
    save_file({k: v.double() for k, v in tensors.items()}, file, metadata={"format": "pt"})
    assert hash_of(tmp_path, dtype="float32") != before


def test_a_hub_id_has_the_hash_of_its_folder(tmp_path):
    built, commit = tiny_moe.build("olmoe"), "0" * 40
    snapshot = tmp_path / "hub" / "models--some--tiny" / "snapshots" / commit
    built.save_pretrained(snapshot)
    # A tokenizer must be there, as on the hub.
    ma.load("tiny-olmoe").tokenizer.save_pretrained(snapshot)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    script = (
        "import moeaudit as ma\n"
        "for dtype in ('float32', 'bfloat16'):\n"
        "    print(ma.load('some/tiny', dtype=dtype).provenance['weights_sha256'])\n"
    )
    paths = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path.cwd())}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | paths,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == [hash_of(snapshot)] * 2, run.stderr[-2000:]


def test_a_tied_model_is_hashed_as_it_is_stored(tmp_path):
    built = tiny_moe.build("olmoe", tie_word_embeddings=True)
    built.tie_weights()
    assert built.lm_head.weight is built.model.embed_tokens.weight
    built.save_pretrained(tmp_path)
    assert hash_of(tmp_path) == hash_of(built)


def test_offloaded_weights_have_no_hash(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    built = tiny_moe.build("olmoe")
    accelerate.disk_offload(built.model.layers[0], tmp_path, torch.device("cpu"))
    assert ma.load(built).provenance["weights_sha256"] is None
