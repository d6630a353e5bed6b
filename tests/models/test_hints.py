"""What cannot be loaded says which file or word is the matter, in one paragraph, and guesses at slips."""

from __future__ import annotations

import json
import socket

import pytest
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import ModelError
from moeaudit.models.sources.files import reachable

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def renamed(path, prefix):
    from safetensors.torch import load_file, save_file

    tensors = {prefix + name: tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def linked(path, target):
    path.unlink()
    path.symlink_to(target)


CASES = {
    "weights of LFS": (
        lambda d: (d / "model.safetensors").write_text(POINTER),
        "model.safetensors' is a pointer of Git LFS.*git lfs pull",
    ),
    "configuration of LFS": (
        lambda d: (d / "config.json").write_text(POINTER),
        "config.json' is a pointer of Git LFS",
    ),
    "tokenizer of LFS": (
        lambda d: (d / "tokenizer.json").write_text(POINTER),
        "tokenizer.json' is a pointer of Git LFS",
    ),
    "a link into nothing": (
        lambda d: linked(d / "model.safetensors", "../blobs/absent"),
        "is not whole: .*model.safetensors' is a link to ../blobs/absent, which is not there",
    ),
    "an absent shard": (
        lambda d: (d / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
        ),
        r"names 2 files, and 1 are absent \(the first is 'model-2.safetensors'\)",
    ),
    "another type": (
        lambda d: config(d, model_type="olmoe9"),
        r"transformers \d+\.\d+\.\d+, which is installed, has no model type 'olmoe9'",
    ),
    "code": (
        lambda d: config(d, model_type="mine", auto_map={"AutoConfig": "c.C"}),
        "code from a checkpoint is never run",
    ),
    "a wrapper's names": (
        lambda d: renamed(d / "model.safetensors", "_orig_mod."),
        r"names begin with '_orig_mod\.' \('_orig_mod\.lm_head\.weight'\).*save the model inside",
    ),
    "no active expert": (
        lambda d: config(d, num_experts_per_tok=0),
        "layer 0: the router chooses 0 experts.*num_experts_per_tok",
    ),
    "a text for a number": (
        lambda d: config(d, vocab_size="2048"),
        "Validation error for field 'vocab_size': .*2048",
    ),
    "an unknown setting": (
        lambda d: config(d, rope_parameters={"rope_type": "nonsense"}),
        "could not be loaded: .*'nonsense'",
    ),
    "more active than there are": (
        lambda d: config(d, num_experts_per_tok=99),
        "num_experts_per_tok = 99 is more than the",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_file_or_word_at_fault_is_named(case, tmp_path):
    change, words = CASES[case]
    tiny_moe.build("olmoe").save_pretrained(tmp_path / "m")
    change(tmp_path / "m")
    with pytest.raises(ModelError, match=words) as refused:
        ma.load(tmp_path / "m")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "inside", ["snapshots/0a1b", "checkpoint-500", "models--a--b/snapshots/0a1b"]
)
def test_a_folder_above_a_checkpoint_names_the_one_inside(inside, tmp_path):
    (tmp_path / inside).mkdir(parents=True)
    (tmp_path / inside / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"no config.json.*{inside}': give that folder"):
        ma.load(tmp_path)


def test_a_slip_of_the_pen_is_guessed_at():
    with pytest.raises(ModelError, match="Did you mean tiny-olmoe"):
        ma.load("tiny-olme")


def test_an_unreachable_hub_is_one_line_at_once(monkeypatch, capsys):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in (
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    reachable.cache_clear()
    with pytest.raises(ModelError, match="cannot be reached from here.*cache") as refused:
        ma.load("nobody/nothing-here")
    reachable.cache_clear()
    said = capsys.readouterr()
    assert "\n" not in str(refused.value) and not said.err and not said.out
