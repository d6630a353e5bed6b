"""Expert Tying: what is shared and what is not, and that a tied checkpoint comes back as it was."""

from __future__ import annotations

import re

import pytest
import torch
from made.tiny_moe import ARCHITECTURES, build
from torch import nn

import moeaudit as ma
from moeaudit.errors import InputError, ModelError
from moeaudit.lab.tying import post_hoc_tying, tie, tied_groups, untie

IDS = torch.arange(24)[None]


def logits(hf):
    with torch.no_grad():
        return hf(input_ids=IDS).logits


def ends(architecture):
    """Free layers at the ends so that pairs fit: DeepSeek-V2's first layer is dense."""
    return {"first": 0, "last": 0} if architecture == "deepseek_v2" else {"first": 1, "last": 0}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unique_parameters_fall_by_exactly_the_followers_experts(architecture):
    hf = build(architecture, num_hidden_layers=5)
    before, stored = hf.num_parameters(), sum(x.numel() for x in hf.state_dict().values())
    experts = hf.model.layers[2].mlp.experts
    followers = 2 * (experts.gate_up_proj.numel() + experts.down_proj.numel())
    assert tie(hf, 2, **ends(architecture)) == ((1, 2), (3, 4))
    assert hf.num_parameters() == before - followers
    assert sum(x.numel() for x in hf.state_dict().values()) == stored
    layers = hf.model.layers
    for lead, follower in ((1, 2), (3, 4)):
        ours, theirs = layers[lead].mlp, layers[follower].mlp
        assert ours.experts.gate_up_proj is theirs.experts.gate_up_proj
        assert ours.experts.down_proj is theirs.experts.down_proj
        assert ours.gate.weight is not theirs.gate.weight
        apart = [
            (mine, other)
            for (name, mine), (_, other) in zip(
                layers[lead].named_parameters(), layers[follower].named_parameters()
            )
            if "mlp.experts" not in name
        ]
        assert apart and all(mine is not other for mine, other in apart)
    assert layers[2].mlp.experts.down_proj is not layers[3].mlp.experts.down_proj


def test_gradients_of_all_sites_add_up():
    hf = build("olmoe", num_hidden_layers=4)
    alone = build("olmoe", num_hidden_layers=4)
    tie(hf)
    for name in ("gate_up_proj", "down_proj"):  # the same function, without sharing
        lead = getattr(alone.model.layers[1].mlp.experts, name)
        setattr(alone.model.layers[2].mlp.experts, name, nn.Parameter(lead.detach().clone()))
    for model in (hf, alone):
        model(input_ids=IDS, labels=IDS).loss.backward()
    shared = hf.model.layers[1].mlp.experts.down_proj.grad
    sites = [alone.model.layers[i].mlp.experts.down_proj.grad for i in (1, 2)]
    torch.testing.assert_close(shared, sites[0] + sites[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tied_checkpoint_loads_tied_and_computes_the_same(architecture, tmp_path):
    hf = build(architecture, num_hidden_layers=5)
    untied = hf.num_parameters() * 4
    tie(hf, 2, **ends(architecture))
    hf.save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < untied and abs(size - hf.num_parameters() * 4) < 20_000
    model = ma.load(tmp_path)
    assert type(model.hf) is type(hf)
    assert model.anatomy.tied == tied_groups(model) == ((1, 2), (3, 4))
    assert model.provenance["parameters"] == hf.num_parameters()
    assert f"{hf.num_parameters():,} parameters" in repr(model)
    assert any("share one bank" in note for note in model.notes)
    assert torch.equal(logits(model.hf), logits(hf))
    assert ma.load(hf).provenance["weights_sha256"] == model.provenance["weights_sha256"]
    model.hf.save_pretrained(tmp_path / "again")  # what was read can be written
    assert ma.load(tmp_path / "again").anatomy.tied == ((1, 2), (3, 4))


def test_a_tied_checkpoint_is_streamed(tmp_path):
    hf = build("olmoe", num_hidden_layers=4)
    tie(hf)
    hf.save_pretrained(tmp_path)
    model = ma.load(tmp_path, offload="stream")
    assert torch.equal(logits(model.hf), logits(hf))
    assert any("copy of their own" in note for note in model.notes)


def test_untied_copies_compute_the_same_and_any_loader_reads_them(tmp_path):
    from transformers import AutoModelForCausalLM

    hf = build("olmoe", num_hidden_layers=4)
    whole = hf.num_parameters()
    tie(hf)
    before = logits(hf)
    assert untie(hf) == ((1, 2),)
    assert tied_groups(hf) == () and hf.num_parameters() == whole
    hf.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), before)
    with pytest.raises(InputError, match="nothing to untie"):
        untie(hf)


def test_a_census_of_a_tied_model_edits_one_site(tmp_path):
    hf = build("olmoe", num_hidden_layers=4)
    tie(hf)
    hf.save_pretrained(tmp_path)
    model = ma.load(tmp_path)
    effects = ma.ablate(model, [IDS[0].numpy()], ma.Zero(), layers=[1, 2])
    assert ma.verify(effects, model, n=12).agrees


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"group": 3}, "Groups of 3 do not fit: of the 4 MoE layers"),
        ({"first": 3, "last": 1}, "0 remain"),
        ({"group": 1}, "group = 1: a whole number from 2"),
        ({"first": -1}, "first = -1"),
        ({"groups": [[0, 1], [1, 2]]}, "Layer 1 is in two groups"),
        ({"groups": [[1]]}, "the group [1]"),
        ({"groups": []}, "no group at all"),
        ({"groups": 3}, "lists of layer numbers"),
        ({"groups": [[3, 4]]}, "Layer 4 does not exist"),
    ],
)
def test_groups_that_cannot_be(asked, why):
    hf = build("olmoe", num_hidden_layers=4)
    with pytest.raises(InputError, match=re.escape(why)):
        tie(hf, **asked)
    assert tied_groups(hf) == ()


def test_layers_of_different_shapes_are_refused():
    hf = build("olmoe", num_hidden_layers=4)
    experts = hf.model.layers[2].mlp.experts
    experts.gate_up_proj = nn.Parameter(experts.gate_up_proj[:, :40].clone())
    experts.down_proj = nn.Parameter(experts.down_proj[..., :20].clone())
    with pytest.raises(InputError, match="Layers 1 and 2 cannot share experts"):
        tie(hf)


def test_tied_layers_are_not_tied_again_and_a_loaded_model_is_refused():
    hf = build("olmoe", num_hidden_layers=4)
    tie(hf)
    with pytest.raises(InputError, match="Layer 1 shares its experts"):
        tie(hf)
    with pytest.raises(InputError, match=r"give it its \.hf"):
        tie(ma.load(hf))


def test_experts_that_are_not_fused_are_refused():
    hf = build("olmoe", num_hidden_layers=4)
    hf.model.layers[1].mlp.experts.add_module("more", nn.Linear(2, 2))
    with pytest.raises(InputError, match="do not hold fused tensors"):
        tie(hf)


def test_a_mark_that_does_not_fit_is_refused(tmp_path):
    hf = build("olmoe", num_hidden_layers=4)
    tie(hf)
    hf.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    good = path.read_text("utf-8")
    path.write_text(good.replace("layers.2.mlp.experts", "layers.9.mlp.experts"), "utf-8")
    with pytest.raises(ModelError, match=r"layers\.9\.mlp\.experts'.*no such module"):
        ma.load(tmp_path)
    path.write_text(re.sub(r'"keys": \{[^}]*\}', '"keys": 3', good), "utf-8")
    with pytest.raises(ModelError, match="expert_tying = "):
        ma.load(tmp_path)


@pytest.mark.parametrize("to", ["mean", "leader"])
def test_post_hoc_tying_is_an_edit_that_is_undone(to):
    hf = build("olmoe", num_hidden_layers=4)
    before, one, two = logits(hf), *(hf.model.layers[i].mlp.experts for i in (1, 2))
    kept = one.down_proj, two.down_proj
    with post_hoc_tying(hf, to=to) as groups:
        assert groups == ((1, 2),) and one.down_proj is two.down_proj
        wanted = (kept[0] + kept[1]) / 2 if to == "mean" else kept[0]
        torch.testing.assert_close(one.down_proj, wanted, check_stride=False)
        assert not torch.allclose(logits(hf), before)
    assert one.down_proj is kept[0] and two.down_proj is kept[1]
    assert torch.equal(logits(hf), before)
    with pytest.raises(InputError, match="Did you mean mean"), post_hoc_tying(hf, to="meen"):
        pass
