"""The page of costs: its table is the one that the configurations give, and measurements stand beside it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from moeaudit.errors import InputError

ROOT = Path(__file__).parents[2]
STREAMED = {
    "model": "olmoe", "scale": 1.0, "documents": 8, "tokens": 64, "threads": 2, "dtype": "bfloat16",
    "removals": 8 * 63 * 128, "seconds": {"census": 100.0}, "peak_resident": 5 * 10**9,
}  # fmt: skip
CARD = {
    "card": {"device": {"name": "Some card"}},
    "DeepSeek-V2-Lite": {
        "census": {
            "documents": 16, "tokens": 128, "removals": 16 * 19_812, "seconds": 8.0, "peak_GiB": 40.0,
        }
    },
    "Qwen1.5-MoE-A2.7B": {"census": {"reason": "no time was left"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def costs():
    return importlib.import_module("benchmarks.costs")


def written(folder: Path, *found: dict) -> list[Path]:
    files = [folder / f"{i}.json" for i in range(len(found))]
    for file, each in zip(files, found):
        file.write_text(json.dumps(each))
    return files


def test_the_page_in_docs_is_what_the_configurations_give(costs):
    page = (ROOT / "docs" / "costs.md").read_text("utf-8")
    assert costs.models() in page and costs.machines() in page and costs.HOW in page


def test_measured_censuses_stand_beside_the_count(costs, tmp_path):
    points = list(costs.measured_points(written(tmp_path, STREAMED, CARD)))
    assert [(p.repo.split("/")[1], p.documents, p.seconds) for p in points] == [
        ("OLMoE-1B-7B-0924", 8, 100.0),
        ("DeepSeek-V2-Lite", 16, 8.0),
    ]
    lines = costs.compared(points).splitlines()
    assert "CPU, 2 threads, bfloat16, streamed" in lines[-2] and "64,512 / 64,512" in lines[-2]
    assert "Some card" in lines[-1] and "316,992 / 316,992" in lines[-1]
    assert "101 TFLOP/s" in lines[-1] and "42.9 GB" in lines[-1]  # 16 x 50.26 TFLOP in 8 s
    assert "Nothing was compared" in costs.compared([])


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (STREAMED | {"scale": 0.05}, "scaled by 0.05"),
        (STREAMED | {"model": "nosuch"}, "'nosuch' is none of"),
        ({"card": {}}, "holds no census"),
    ],
)
def test_other_files_are_refused_in_words(costs, found, why, tmp_path):
    with pytest.raises(InputError, match=why):
        list(costs.measured_points(written(tmp_path, found)))
    with pytest.raises(InputError, match="cannot be read as measurements"):
        list(costs.measured_points([tmp_path / "nowhere.json"]))
