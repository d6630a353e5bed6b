"""A census on another device: the same numbers, nothing made on the CPU, and few questions to the device.

torch's own Python backend stands for an accelerator (`made.second_device`): tensors really are
elsewhere for torch, and mixing devices is an error. It changes the whole process, so each test has
one of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, sys
sys.path[:0] = [{root!r}, {tests!r}]
import moeaudit as ma
from made import second_device, tiny_moe
from moeaudit.causal.walk.budget import Budget
from moeaudit.models.anatomy import remember
from moeaudit.models.find import find_anatomy

architecture, dtype = sys.argv[1:]
ids = [tiny_moe.ids(9), tiny_moe.ids(13, seed=1)]
here = ma.load(tiny_moe.build(architecture).to(getattr(__import__("torch"), dtype)))
expected = ma.ablate(here, ids)
second_device.prepare()
device = second_device.SecondDevice()
with device:
    hf = second_device.moved(tiny_moe.build(architecture).to(here.dtype))
    anatomy = find_anatomy(hf)
    remember(hf, anatomy)
    there = ma.Model("there", hf, None, anatomy, {{"weights_sha256": None}})
    found = ma.ablate(there, ids)
    asked = []
    small = Budget(layer_rows=5, expert_rows=5, scores=64, compared=1)
    for budget in (Budget(), small):
        Budget.of = classmethod(lambda cls, device, budget=budget: budget)
        device.asked.clear()
        ma.ablate(there, ids[1:])
        asked.append(dict(device.asked))
print(json.dumps({{
    "device": str(there.device),
    "engines": [expected.engine.split(" (")[0], found.engine.split(" (")[0]],
    "same_rows": bool(expected[["position", "layer", "expert"]].equals(found[["position", "layer", "expert"]])),
    "off": float((expected.delta_nll - found.delta_nll).abs().max()),
    "largest": float(expected.delta_nll.abs().max()),
    "layers": len(anatomy.layers),
    "asked": asked,
}}))
"""


def on_second_device(architecture: str, dtype: str) -> dict:
    script = SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", script, architecture, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("olmoe", "float32"), ("deepseek_v2", "bfloat16")],
)
def test_the_census_runs_there_and_asks_little(architecture, dtype):
    got = on_second_device(architecture, dtype)
    assert got["device"] == "privateuseone:0"
    assert got["engines"] == ["wavefront replay"] * 2
    assert got["same_rows"]
    assert got["largest"] > 0.01
    assert got["off"] < (1e-5 if dtype == "float32" else 0.05)
    whole, cut = got["asked"]
    # As many questions however small the blocks of rows are: a few a walk and at most two a layer.
    # (transformers asks once a forward, for its masks, so a block of the head costs one.)
    assert whole == cut
    assert whole["_local_scalar_dense"] <= 8 + 2 * got["layers"]
