"""Complete-muE in training, in the audit, in the coordinate check and the sweep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.errors import InputError
from moeaudit.lab.training.steps import Steps


def small(top_k: int = 2, *, mue: bool = True, base: int = 16, **changes) -> lab.Recipe:
    shape = dict(
        hidden=16, layers=1, heads=2, experts=4, top_k=top_k, width=8, context=16, length=16
    )
    train = dict(rows=8, steps=2, warmup=0, optimiser="adamw", norm_topk_prob=True, held_out=1)
    section = {"complete_mue": {"base": base}} if mue else {}
    return lab.recipe("olmoe", mechanisms=section, **shape | train | changes)


def test_starts_and_rates_are_folded_in():
    plain, scaled = (Steps(small(mue=mue, base=8), 50) for mue in (False, True))
    of = lab.multipliers(16, 2, 8, base=8)
    theirs = dict(plain.model.named_parameters())
    rate = {id(p): g["lr"] for o in scaled.optimisers for g in o.param_groups for p in g["params"]}
    before = {id(p): g["lr"] for o in plain.optimisers for g in o.param_groups for p in g["params"]}
    for name, p in scaled.model.named_parameters():
        start, factor = 1.0, 1.0
        if name.endswith("experts.down_proj"):
            start, factor = of.routed_start, of.routed_rate
        elif name == "lm_head.weight":
            start = factor = 0.5
        elif p.ndim > 1 and "embed" not in name:
            start, factor = 2**-0.5, 0.5
        assert torch.allclose(p, theirs[name] * start), name
        assert rate[id(p)] == pytest.approx(before[id(theirs[name])] * factor), name


def test_the_recipe_knows_it_and_deepseek_is_refused():
    recipe = small(base=8)
    assert recipe.to_dict()["mechanisms"] == {"complete_mue": {"base": 8}}
    assert lab.Recipe.from_dict(recipe.to_dict()).hash == recipe.hash
    with pytest.raises(InputError, match="base is 0"):
        small(base=0)
    with pytest.raises(InputError, match="complete_mue"):
        lab.recipe("olmoe", mechanisms={"complete_mue": {"bass": 8}})
    deepseek = small().changed(family="deepseek-v2", shared_width=8, norm_topk_prob=False)
    with pytest.raises(InputError, match="sum to one"):
        Steps(deepseek, 50)


def test_its_rules_are_adams_and_muon_is_refused():
    assert lab.Recipe().train.optimiser == "muon"
    with pytest.raises(InputError, match="needs .train. optimiser 'adamw', and it is 'muon'"):
        lab.recipe("olmoe", mechanisms={"complete_mue": {}})
    with pytest.raises(InputError, match='Give optimiser = "adamw"'):
        small().changed(optimiser="muon")
    assert small(mue=False).changed(optimiser="muon").train.optimiser == "muon"


def test_the_audit_of_a_configuration_and_of_a_checkpoint():
    config = lab.parameterisation("Qwen/Qwen1.5-MoE-A2.7B")
    row = config.table.iloc[0]
    assert (row["active"], row["width"], row["shared"]) == (4, 1408, 5632)
    assert row["A"] == pytest.approx(2048 / 11264) and config.table["gates"].isna().all()
    assert "only a configuration" in config.notes[-1]
    model = tiny_moe.load("qwen2_moe")
    found = lab.parameterisation(model, [tiny_moe.ids(12)])
    trace = ma.capture(model, [tiny_moe.ids(12)])
    # A trace leaves out the last token of a document; means over all others are near.
    sums = trace.routing.groupby(["layer", "position"])["weight"].sum().groupby("layer").mean()
    assert found.table.set_index("layer")["gates"].to_numpy(float) == pytest.approx(
        sums.to_numpy(), rel=0.2
    )
    assert (found.table["rms_shared"] > 0).all() and (found.table["routed_over_residual"] > 0).all()
    assert "Complete-muE would" in repr(found) and "<table" in found._repr_html_()
    assert lab.parameterisation(tiny_moe.load("olmoe")).table["rms_shared"].isna().all()


def test_a_coordinate_check():
    found = lab.coordinate_check({a: small(a) for a in (1, 4)}, seeds=(0, 1), steps=1)
    assert set(found.table["where"]) == {"routed", "block", "logits"}
    assert found.table.loc[found.table["step"] == 0, "update"].isna().all()
    assert (found.table.loc[found.table["step"] == 1, "update"] > 0).all()
    routed = found.slopes.set_index(["where", "what"]).loc[("routed", "activation")]
    assert np.isfinite(routed[["slope", "slope_low", "slope_high"]].to_numpy(float)).all()
    with pytest.raises(InputError, match="at least two"):
        lab.coordinate_check({1: small()})


def test_a_sweep():
    found = lab.rate_sweep({"one": small(1), "two": small(2)}, (0.5, 1.0, 2.0), seeds=(0,))
    assert len(found.table) == 6 and found.table["loss"].notna().all()
    assert list(found.best["arm"]) == ["one", "two"] and list(found.shifts["arm"]) == ["two"]
    assert found.best["log2_best_low"].isna().all()  # one seed: no interval
    with pytest.raises(InputError, match="three factors"):
        lab.rate_sweep({"one": small(1), "two": small(2)}, (1.0, 2.0))
