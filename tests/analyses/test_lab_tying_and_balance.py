"""The lab's analyses of tying and of balance: their numbers by hand, and a page from models that were not trained."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from moeaudit.errors import InputError
from moeaudit.lab import tie

shared = importlib.import_module("analyses.lab.shared")
balance = importlib.import_module("analyses.lab.load_balance.measure")


def save(folder: Path, seed: int, *, tied: bool, experts: int) -> Path:
    """A five-layer OLMoE with the bundled tokenizer and random weights."""
    import torch
    from transformers import OlmoeConfig, OlmoeForCausalLM

    from moeaudit.models.bundled import TOKENIZER

    config = OlmoeConfig(
        vocab_size=2048, hidden_size=16, intermediate_size=8, num_hidden_layers=6, num_attention_heads=2,
        num_key_value_heads=2, num_experts=experts, num_experts_per_tok=2, max_position_embeddings=64,
        pad_token_id=None, bos_token_id=None, eos_token_id=None, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = OlmoeForCausalLM(config)
    if tied:
        tie(model)
    model.save_pretrained(folder)
    for path in TOKENIZER.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


class Untrained:
    """A pool of two random models an arm, whose losses are made up."""

    seeds = (0, 1)

    def __init__(self, folder: Path, arms: tuple[str, ...]) -> None:
        self.folder, self.arms = folder, arms
        self.made: dict[tuple[str, int], Path] = {}

    def get(self, arm: str, seed: int) -> Path:
        if (arm, seed) not in self.made:
            experts = {"olmoe-half": 4, "olmoe-tied-wide": 12}.get(arm, 8)
            place = self.folder / f"{arm}-{seed}"
            self.made[arm, seed] = save(place, seed, tied="tied" in arm, experts=experts)
        return self.made[arm, seed]

    @property
    def models(self) -> pd.DataFrame:
        rows = [
            {"arm": arm, "seed": seed, "nll": 6 + 0.1 * a + 0.01 * seed * (a + 1)}
            for a, arm in enumerate(self.arms)
            for seed in self.seeds
        ]
        return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        (
            "expert_tying",
            {"arms", "differences", "additivity", "agreement", "merged_after_training"},
        ),
        ("load_balance", {"arms", "differences"}),
    ],
)
def test_the_analysis_runs_and_its_numbers_add_up(name, tables, tmp_path, monkeypatch):
    module = importlib.import_module(f"analyses.lab.{name}.__main__")
    pool = Untrained(tmp_path / "pool", module.ARMS)
    monkeypatch.setattr(module, "pool_of", lambda given, arms: pool)  # noqa: ARG005
    monkeypatch.setattr(balance, "PERMUTATIONS", 9)
    assert module.main(["--quick", "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    assert tables | {"models"} == set(result["tables"]) and result["seeds"] == [0, 1]
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<svg" in page and "nan" not in page and "try-out" in page
    told = {r["arm"]: r for r in result["tables"]["arms"]}
    assert told["olmoe"]["nll"] == pytest.approx(6.005) and told["olmoe"]["seeds"] == 2
    # 6.1 less 6.0 and 6.12 less 6.01: mean .105, and Student's t with one degree of freedom.
    one = next(r for r in result["tables"]["differences"] if r["arm"] == module.ARMS[1])
    assert one["difference"] == pytest.approx(0.105)
    half = stats.t.ppf(0.975, 1) * np.std([0.1, 0.11], ddof=1) / math.sqrt(2)
    assert one["difference_high"] - one["difference"] == pytest.approx(half)
    if name == "expert_tying":
        # Four banks of twelve experts are as many as six layers of eight.
        assert told["olmoe-tied-wide"]["expert_parameters"] == told["olmoe"]["expert_parameters"]
        assert told["olmoe-tied"]["expert_parameters"] * 3 == told["olmoe"]["expert_parameters"] * 2
        gaps = {(r["arm"], r["sites"]): r for r in result["tables"]["additivity"]}
        for row in gaps.values():
            assert row["gap"] == pytest.approx(row["whole"] - row["sum"], abs=1e-9)
    else:
        assert all(math.isclose(r["micro"], r["sequence"]) is False for r in told.values())


def test_one_seed_has_no_interval_and_says_so():
    found = shared.over_seeds(
        pd.DataFrame({"arm": ["a"], "seed": [0], "nll": [2.0]}), ["arm"], ["nll"]
    )
    assert found["nll"][0] == 2 and np.isnan(found["nll_low"][0])
    assert found["reason"][0] == "one seed: no interval over seeds"
    with pytest.raises(InputError, match="one row for each training"):
        twice = pd.DataFrame({"arm": "a", "seed": [0, 0], "nll": [2.0, 3.0]})
        shared.over_seeds(twice, ["arm"], ["nll"])


def test_concentration_by_hand():
    # Two documents of each of two domains; each domain's mass on an expert of its own.
    apart = np.array([[4.0, 0], [2, 0], [0, 1], [0, 5]])
    ratio, excess = balance.concentration(apart, np.array([0, 0, 1, 1]), 50)
    assert ratio == pytest.approx(2.0) and 0 < excess < 1
    even = np.ones((4, 2))
    assert balance.concentration(even, np.array([0, 0, 1, 1]), 50) == pytest.approx((1.0, 0.0))


def test_whether_cost_follows_use():
    used = np.array([[80.0, 20, 50], [20, 80, 50]])
    total = used.sum(axis=0)
    cost = np.array([[3.0, 1, 2], [1, 3, 2]])  # of one removal: more where the expert is used more
    mass = cost * used
    assert balance.follows(mass, used, total, mass.sum(axis=0)) == pytest.approx(1.0, abs=0.1)
    against = (4 - cost) * used
    assert balance.follows(against, used, total, against.sum(axis=0)) == pytest.approx(-1, abs=0.1)
    assert np.isnan(balance.follows(mass, used / 20, total / 20, mass.sum(axis=0)))
