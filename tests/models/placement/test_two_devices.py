"""Layers on two devices: walked by rows, equal to the model on one, whichever device computes.

`made.second_device` stands for the other device: tensors really are elsewhere for torch, and mixing devices is
an error. It changes the whole process, so each test has one of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made import tiny_moe

import moeaudit as ma

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, sys
sys.path[:0] = [{root!r}, {tests!r}]
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
import moeaudit as ma
from made import second_device, tiny_moe

def spread(hf, first):
    # As accelerate does for a device_map: each module with weights is run where they are.
    for i, layer in enumerate(hf.model.layers):
        there = i >= first
        if there:
            second_device.moved(layer)
        on = second_device.DEVICE if there else torch.device("cpu")
        for module in layer.modules():
            if module.state_dict():
                add_hook_to_module(module, AlignDevicesHook(execution_device=on))
    for module in (hf.model.embed_tokens, hf.model.norm, hf.lm_head):
        add_hook_to_module(module, AlignDevicesHook(execution_device="cpu"))
    return hf.requires_grad_(False)

ids = [tiny_moe.ids(9), tiny_moe.ids(13, seed=1)]
whole = ma.load(tiny_moe.build(sys.argv[1]))
expected, trace = ma.ablate(whole, ids), ma.capture(whole, ids).routing
second_device.prepare()
device = second_device.SecondDevice()
with device:
    model = ma.load(spread(tiny_moe.build(sys.argv[1]), 1))
    found = ma.ablate(model, ids)
    routing = ma.capture(model, ids).routing
    agrees = ma.verify(found, model, n=4).agrees
    rerouted = ma.ablate(model, ids[:1], ma.Reroute())
print(json.dumps({{
    "devices": sorted({{str(p.device) for p in model.hf.parameters()}}),
    "home": str(model.device),
    "engine": found.engine.split(" (")[0],
    "off": float((expected.delta_nll - found.delta_nll).abs().max()),
    "largest": float(expected.delta_nll.abs().max()),
    "same": bool((routing["expert"] == trace["expert"]).all() and (found["expert"] == expected["expert"]).all()),
    "agrees": bool(agrees),
    "rerouted": float((rerouted.delta_nll - ma.ablate(whole, ids[:1], ma.Reroute()).delta_nll).abs().max()),
}}))
"""


@pytest.mark.parametrize("architecture", ["olmoe", "deepseek_v2"])
def test_layers_on_two_devices_are_walked(architecture):
    script = SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests"))
    done = subprocess.run(
        [sys.executable, "-c", script, architecture], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    got = json.loads(done.stdout.splitlines()[-1])
    assert got["devices"] == ["cpu", "privateuseone:0"] and got["home"] == "cpu"
    assert got["engine"] == "wavefront replay"
    assert got["largest"] > 0.01 and got["off"] < 1e-5 and got["rerouted"] < 1e-5
    assert got["same"] and got["agrees"]


@pytest.mark.parametrize("split", [1, 2])
def test_one_device_in_two_places_is_walked(split):
    """accelerate's own map and hooks, with the CPU in both places."""
    accelerate = pytest.importorskip("accelerate")
    around = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
    placed = dict.fromkeys((*around, *(f"model.layers.{i}" for i in range(split))), "cpu")
    deep = {f"model.layers.{i}": torch.device("cpu") for i in range(split, 3)}
    built = accelerate.dispatch_model(
        tiny_moe.build("qwen2_moe"), placed | deep, main_device="cpu", force_hooks=True
    )
    assert all(hasattr(layer, "_hf_hook") for layer in built.model.layers)
    found = ma.ablate(ma.load(built), [tiny_moe.ids(12)])
    expected = ma.ablate(tiny_moe.load("qwen2_moe"), [tiny_moe.ids(12)])
    assert found.engine.startswith("wavefront") and (found.delta_nll == expected.delta_nll).all()


def test_weights_on_meta_that_come_from_the_cpu_are_walked():
    """The pair of meta and CPU: every weight is on meta until accelerate brings it for its module."""
    accelerate = pytest.importorskip("accelerate")
    built = accelerate.cpu_offload(
        tiny_moe.build("qwen2_moe"), execution_device=torch.device("cpu")
    )
    assert all(p.is_meta for p in built.parameters())
    found = ma.ablate(ma.load(built), [tiny_moe.ids(12)])
    expected = ma.ablate(tiny_moe.load("qwen2_moe"), [tiny_moe.ids(12)])
    # A head that is not here is taken in blocks of rows, the other in blocks of the vocabulary.
    assert found.engine.startswith("wavefront")
    assert (found.delta_nll - expected.delta_nll).abs().max() < 1e-5
    assert all(p.is_meta for p in built.parameters())
