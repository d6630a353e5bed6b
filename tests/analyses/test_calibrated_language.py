"""analyses/lab/calibrated_moe, language models: confidence by hand, the null of routing, a run on a made pool."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import moeaudit as ma

HOME = "analyses.lab.calibrated_moe"
main = importlib.import_module(f"{HOME}.__main__")
language = importlib.import_module(f"{HOME}.language")
recipe = importlib.import_module(f"{HOME}.recipe")


class Untrained:
    """A pool of two random models an arm, whose losses are made up."""

    seeds = (0, 1)

    def __init__(self, folder: Path, arms: tuple[str, ...]) -> None:
        self.folder, self.arms = folder, arms

    def get(self, arm: str, seed: int) -> Path:
        from transformers import OlmoeConfig, OlmoeForCausalLM

        from moeaudit.models.bundled import TOKENIZER

        place = self.folder / f"{arm}-{seed}"
        if not place.exists():
            config = OlmoeConfig(
                vocab_size=2048, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, max_position_embeddings=64,
                pad_token_id=None, bos_token_id=None, eos_token_id=None, initializer_range=0.2,
            )  # fmt: skip
            torch.manual_seed(10 * seed + len(arm))
            OlmoeForCausalLM(config).save_pretrained(place)
            for path in TOKENIZER.iterdir():
                (place / path.name).write_bytes(path.read_bytes())
        return place

    @property
    def models(self) -> pd.DataFrame:
        rows = [{"arm": a, "seed": s, "nll": 6.0 + s} for a in self.arms for s in self.seeds]
        return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Untrained:
    return Untrained(tmp_path_factory.mktemp("pool"), recipe.QUICK)


def test_confidence_is_that_of_plain_forwards(pool):
    model = ma.load(pool.get("olmoe", 0))
    fitted_on, tested_on = language.texts(model, 2, 24)
    tested = language.read(model, tested_on, routing=True, temperatures=language.GRID)
    sampler = language.sampler_of(tested)
    found = language.scored(model, fitted_on, tested, sampler)
    t = found.facts["temperature"]
    rows = []
    for document in ma.corpus("bundled", split="shift").sample(2, seed=0, per_domain=True):
        ids = torch.tensor(model.tokenizer(document.text)["input_ids"][:24])
        with torch.no_grad():
            logits = model.hf(ids[None]).logits[0, :-1].double()
        for name, scale in ((language.NONE, 1.0), (language.GLOBAL, t)):
            p = (logits / scale).softmax(-1)
            right = (logits.argmax(-1) == ids[1:]).double()
            nll = -p.log()[torch.arange(len(p)), ids[1:]]
            for values in zip((p.amax(-1) - right).tolist(), nll.tolist()):
                rows.append((name, *values))
    by_hand = pd.DataFrame(rows, columns=["name", "gap", "nll"]).groupby("name").mean()
    at = sampler.strata.index("all shifted")
    for name in (language.NONE, language.GLOBAL):
        for metric in ("gap", "nll"):
            value = found.scores[name].value[metric][at]
            assert value == pytest.approx(by_hand.loc[name, metric], abs=2e-4)
    assert sampler.test.shifted == ("apidocs", "encyclopedia_es", "licences")
    # Random weights know nothing: the flattest answer is the best, and the end of the grid is said to be one.
    assert len(sampler.test.block) == 2 * 11 and t == pytest.approx(4)
    rows = pd.DataFrame({"arm": ["a", "b"], "seed": [0, 1], "temperature": [t, 0.9]})
    assert language.notes(rows) == [
        "a, seed 0: its temperature would lie beyond 0.0625 to 4; 4 was taken."
    ]


def test_routing_that_follows_errors_stands_out_of_its_null():
    rng = np.random.default_rng(0)
    expert = np.repeat(rng.integers(0, 4, 240), 20)  # runs of twenty tokens
    gap = 0.2 * (expert == 2) - 0.2 * (expert == 1) + rng.normal(0, 0.02, len(expert))

    def worst(routed: np.ndarray) -> dict[str, float]:
        seen = type("Seen", (), {"top1": routed[:, None]})
        reading = type("Reading", (), {"routing": seen})
        weight = type("Test", (), {"weight": np.ones(len(routed))})
        return language._worst(reading, gap, type("Sampler", (), {"test": weight}))

    assert worst(expert)["worst_excess"] > 0.05
    other = np.repeat(rng.integers(0, 4, 240), 20)
    assert abs(worst(other)["worst_excess"]) < 0.03
    # Two experts of half the tokens each, off by .1 and -.1, within 0.1 nats: a share q with KL(q, 1/2) = 0.1.
    half = language._layer(np.repeat([0, 1], 50), np.repeat([0.1, -0.1], 50))
    q = 0.5 + half / 0.2
    assert q * np.log(2 * q) + (1 - q) * np.log(2 * (1 - q)) == pytest.approx(0.1, abs=1e-6)


def test_a_run_on_language_models_is_written(pool, monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(
        main, "pool_of", lambda given, arms: asked.append((given.seeds, arms)) or pool
    )
    assert main.main(["--quick", "--tasks", "language", "--out", str(tmp_path)]) == 0
    assert asked == [(2, recipe.QUICK)]
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert {"language", "shift", "models", "arms", "example"} == set(result["tables"])
    assert result["sentences"][0].startswith("A run of the machinery")
    assert "olmoe-tilted against olmoe" in result["sentences"][2]
    differences = pd.read_csv(tmp_path / "language.csv")
    assert set(differences["training"]) == {"olmoe-tilted"} and set(differences["against"]) == {
        "olmoe"
    }
    told = differences.dropna(subset=["raw_low"])
    assert (told["raw_low"] <= told["raw"]).all() and (told["raw"] <= told["raw_high"]).all()
    # Dividing by one temperature never changes an answer.
    accuracy = differences[differences["metric"] == "accuracy"]
    np.testing.assert_allclose(accuracy["raw"], accuracy["after"], atol=1e-6)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<script" not in page and "<svg" in page and "nan" not in page.replace("finance", "")
    assert (tmp_path / "gaps-language.svg").read_text("utf-8").startswith("<svg")
    assert "Read nothing into it" in page and str(tmp_path) in capsys.readouterr().out
