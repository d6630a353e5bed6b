"""The script of the true-size figures, at a small size: hub layout, a streamed census, a sample checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOTALS = {"olmoe": 13838323712, "qwen2_moe": 28631568384, "deepseek_v2": 31412968448}


@pytest.mark.parametrize("model", sorted(TOTALS))
def test_real_configurations_have_the_hubs_size(model, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from checkpoints import REAL, tensors_of

    shapes = tensors_of(REAL[model].config)
    size = 0
    for shape in shapes.values():
        numbers = 1
        for n in shape:
            numbers *= n
        size += 2 * numbers
    assert size == TOTALS[model]  # the metadata of the index on the hub
    assert "model.layers.1.mlp.experts.0.gate_proj.weight" in shapes


def test_a_small_census_is_streamed_and_right(tmp_path):
    figures = tmp_path / "figures.json"
    command = [
        *(sys.executable, "benchmarks/full_size.py", "deepseek_v2", str(tmp_path)),
        *("--scale", "0.06", "--tokens", "12", "--sample", "20", "--json", str(figures)),
    ]
    subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)
    found = json.loads(figures.read_text())
    assert found["removals"] == 11 * 6 * 3 and found["engine"].startswith("wavefront")
    assert found["dtype"] == "float32" and found["sample"] == 20
    assert found["largest_difference"] < 1e-5 < found["largest_sampled_effect"]
    folder = tmp_path / "deepseek_v2"
    layers = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert 0 < found["read"]["census"] < layers
    assert len(list(folder.glob("model-0000?-of-00004.safetensors"))) == 4
