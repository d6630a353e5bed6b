"""What is measured of smollm2-moe, on small copies; and the page's tables against the record of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.lab.upcycling import smollm2
from analyses.lab.upcycling.arms import LAYERS, words
from moeaudit.lab.upcycling import upcycle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A mixture of copies, and the same with experts moved apart."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    config = LlamaConfig(
        vocab_size=len(words()), num_attention_heads=4, initializer_range=0.2, **sizes
    )
    model = upcycle(LlamaForCausalLM(config).eval(), 4, 2, layers=LAYERS, router="random", seed=0)
    made = {}
    for name in ("copies", "trained"):
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
        words().save_pretrained(made[name])
        for layer in LAYERS:
            weight = model.model.layers[layer].mlp.experts.down_proj.data
            weight += 0.3 * weight.std() * torch.randn(weight.shape)
    return made


def test_copies_stand_in_wholly_and_moved_experts_in_part(folders, tmp_path):
    out = tmp_path / "found.json"
    where = [str(folders["copies"]), str(folders["trained"])]
    assert smollm2.main([*where, "--out", str(out), "--tokens", "6", "--held-out", "1"]) == 0
    found = json.loads(out.read_text("utf-8"))
    copies, trained = found["models"]["copies"], found["models"]["trained"]
    assert copies["swap_most_float64"] < 1e-12 and copies["swap_most"]["delta_nll"] < 1e-5
    assert copies["stand_in"]["share"] == pytest.approx(1, abs=1e-6)
    assert trained["stand_in"]["low"] <= trained["stand_in"]["share"] < 0.99
    assert "within 1e-05" in trained["verified"]
    assert [each["layer"] for each in trained["layers"]] == LAYERS
    assert copies["layers"][0]["distance"] == [0, 0, 0] != trained["layers"][0]["distance"]
    every = found["loss"][0]
    assert every["documents"] == 8 and every["domain"] == "all"
    assert every["difference"] == pytest.approx(every["nll"] - every["nll_dense"], abs=1e-9)


def test_the_jackknife_is_that_of_a_ratio_of_means():
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(5), 4)
    removed = pd.DataFrame({"document": document, "kl": rng.uniform(1, 2, 20)})
    put = removed.assign(kl=0.1 * removed.kl)
    same = smollm2.stand_in(removed, put)
    assert same["share"] == pytest.approx(0.9) and same["high"] - same["low"] < 1e-9
    loose = smollm2.stand_in(removed, put.assign(kl=rng.uniform(0, 0.3, 20)))
    assert loose["low"] < loose["share"] < loose["high"] and loose["documents"] == 5
