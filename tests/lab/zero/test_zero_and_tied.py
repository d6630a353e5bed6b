"""A model that is tied and has zero experts as well: what is saved is what is loaded and audited."""

import pandas as pd
import pytest
import torch
from made import tiny_moe
from made.aligned import aligned

import moeaudit as ma
from moeaudit.lab import tie, tied_groups, zero

IDS = tiny_moe.ids(14)


def both(architecture: str, first: str) -> torch.nn.Module:
    hf = tiny_moe.build(architecture, num_hidden_layers=5)
    if first == "tie":
        tie(hf, groups=[[1, 2], [3, 4]])
    zero.add_zero_experts(hf, 4, weight=1.0, seed=1)
    if first == "zero":
        tie(hf, groups=[[1, 2], [3, 4]])
    return hf


@pytest.mark.parametrize("first", ["tie", "zero"])
@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_a_tied_checkpoint_with_zero_experts_is_the_model_in_memory(architecture, first, tmp_path):
    hf = both(architecture, first)
    here = ma.load(hf)
    groups = tied_groups(here)
    assert {layer.num_experts for layer in here.anatomy.layers} == {12}
    hf.save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert abs(size - hf.num_parameters() * 4) < 20_000  # shared tensors stand there once

    there = aligned(ma.load(tmp_path))
    assert tied_groups(there) == groups == ((1, 2), (3, 4))
    assert there.provenance["weights_sha256"] == here.provenance["weights_sha256"]
    assert there.provenance["parameters"] == hf.num_parameters()
    read = torch.as_tensor(IDS)[None]
    assert torch.equal(there.hf(read).logits, hf(read).logits)
    frames = []
    for model in (here, there):
        effects = ma.ablate(model, [IDS])
        assert ma.verify(effects, model, n=3).agrees
        bank = ma.ablate(model, [IDS], ma.Bank(groups))
        frames.append((pd.DataFrame(effects), pd.DataFrame(bank)))
    for mine, theirs in zip(*frames):
        pd.testing.assert_frame_equal(mine, theirs)
    nobody = frames[1][0].query("expert >= 8")
    assert len(nobody) and (nobody["delta_nll"] == 0).all()

    there.hf.save_pretrained(tmp_path / "again")
    again = aligned(ma.load(tmp_path / "again"))
    assert tied_groups(again) == groups
    assert torch.equal(again.hf(read).logits, hf(read).logits)
    streamed = ma.load(tmp_path, offload="stream")
    torch.testing.assert_close(streamed.hf(read).logits, hf(read).logits)


def test_a_recipe_of_both_is_trained_and_loaded(tmp_path):
    import moeaudit.lab as lab

    both_of_them = {"tying": {}, "zero_experts": {"count": 4, "weight": 1.0}}
    recipe = lab.recipe(
        "olmoe", quick=True, steps=2, held_out=1, experts=8, mechanisms=both_of_them
    )
    model = ma.load(lab.train(recipe, tmp_path / "both", progress=False))
    assert tied_groups(model) == ((1, 2), (3, 4))
    assert {layer.num_experts for layer in model.anatomy.layers} == {12}
    effects = ma.ablate(model, [IDS], layers=[1, 3])
    assert ma.verify(effects, model, n=3).agrees
