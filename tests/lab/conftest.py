"""A toy architecture of each family, and a toy corpus folder with every training domain."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from moeaudit.lab.bundled import configs
from moeaudit.text.making.slices import TRAINING_DOMAINS

_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(params=["tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2"])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bundled architecture, made smaller for this test."""
    return shrink(request.param, monkeypatch)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    return shrink("tiny-olmoe", monkeypatch)


def shrink(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    whole = configs.ARCHITECTURES[name]

    def small(vocabulary: int):
        config = whole(vocabulary)
        for field, value in _SMALL.items():
            setattr(config, field, value)
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = _SMALL["num_attention_heads"]
        if hasattr(config, "layer_types") and config.layer_types:
            config.layer_types = config.layer_types[:2]
        return config

    monkeypatch.setitem(configs.ARCHITECTURES, name, small)
    return name


@pytest.fixture
def patterns() -> dict[str, list[np.ndarray]]:
    """Two domains of 64 tokens that can be told apart and learnt: counting up, counting down."""
    random = np.random.default_rng(0)
    make = {1: "up", -1: "down"}
    out: dict[str, list[np.ndarray]] = {}
    for sign, name in make.items():
        starts = random.integers(64, size=20)
        out[name] = [(s + sign * np.arange(50)) % 64 for s in starts]
    return out


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """A folder as `moeaudit.text.build` writes it: ten short documents a training domain."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for domain in (*TRAINING_DOMAINS, "elsewhere"):
        with gzip.open(folder / f"{domain}.jsonl.gz", "wt", encoding="utf-8") as file:
            for n in range(10):
                words = " ".join(f"{domain} says {i * n % 7}," for i in range(12))
                record = {"text": f"Number {n}. {words}", "domain": domain, "language": "en"}
                record |= {"source": f"{domain}/{n}", "split": "test" if n >= 7 else "train"}
                file.write(json.dumps(record) + "\n")
    digest = hashlib.sha256(b"toy").hexdigest()
    (folder / "corpus.json").write_text(json.dumps({"sha256": digest}), encoding="utf-8")
    return folder
