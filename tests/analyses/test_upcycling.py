"""The analysis of upcycling: its measures on a model of copies, its limits over seeds, its page."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from analyses.lab.shared import clean
from analyses.lab.upcycling import arms
from analyses.lab.upcycling.arms import ARMS, LAYERS, Plan, made, words
from analyses.lab.upcycling.measure import by_arm, stand_in
from analyses.lab.upcycling.page import sentence, write_page


def dense():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=len(words()), num_attention_heads=4, **sizes)
    ).eval()


def tables() -> dict[str, pd.DataFrame]:
    """As three seeds would give, with round numbers."""
    rows = [
        {"arm": arm, "seed": seed, "nll": 3.0 + 0.1 * i + 0.01 * seed, "distance": 0.1 * i}
        | {"removed": 0.2, "swapped": 0.02, "swap_most": 0.5, "stand_in": 0.9 + 0.01 * seed}
        for i, arm in enumerate(ARMS)
        for seed in range(3)
    ]
    models = pd.DataFrame(rows)
    oracle = models[models.arm == "k-means"].assign(
        dense_nll=3.1, perplexity_off=2e-8, swap_most=1e-7, steps=5
    )
    return {"oracle": oracle, "models": models, **by_arm(models)}


def test_copies_stand_in_for_each_other():
    found = stand_in(made(dense(), "random router", 0), documents=1, tokens=6)
    assert found["stand_in"] == pytest.approx(1, abs=1e-4)
    assert found["removed"] > 1e-6 and found["swap_most"] < 1e-5


def test_arms_are_made_of_the_dense_model():
    whole = dense()
    assert made(whole, "dense", 0) is not whole
    model = made(whole, "half re-initialised", 0)
    assert [
        i for i, layer in enumerate(model.model.layers) if hasattr(layer.mlp, "experts")
    ] == LAYERS
    assert model.config.num_experts_per_tok == 2


def test_arms_read_no_document_that_the_dense_model_has_read(monkeypatch):
    read = []

    def train(model, documents, tuning, **which):
        read.append(documents)

    monkeypatch.setattr(arms, "train_experts", train)
    plan = Plan.quick()
    for seed in (0, 1):
        dense, documents = arms.prepared(plan, seed)
        arms.trained(dense, "dense", plan, seed, documents)
    before, after, again, _ = (
        {(domain, doc.tobytes()) for domain, docs in part.items() for doc in docs} for part in read
    )
    assert not before & after and before == again  # the same halves for every seed
    domains = [{domain for domain, _ in part} for part in (before, after)]
    assert domains[0] == domains[1] and len(domains[0]) == 8
    assert 0.4 < len(before) / len(before | after) < 0.6


def test_differences_are_of_the_same_seed_and_have_limits():
    found = tables()
    gap = found["differences"].set_index("arm")
    # At each seed the same gap, so the interval over seeds has no width though losses differ by seed.
    assert gap.difference["random router"] == pytest.approx(0.3)
    assert gap.difference_high["random router"] == pytest.approx(0.3)
    loss = found["losses"].set_index("arm")
    assert loss.nll_low["dense"] < 3.01 < loss.nll_high["dense"]
    alone = by_arm(found["models"].query("seed == 0"))["losses"]
    assert alone.nll_low.isna().all() and (alone.reason == "one seed: no interval over seeds").all()


def test_the_page_says_the_finding(tmp_path):
    found = tables()
    result = {"sentence": sentence(found, quick=True), "command": "c", "quick": True}
    assert result["sentence"].startswith("A try-out that means nothing: before training")
    assert "0.91" in result["sentence"] and "(95 %, 3 seeds)" in result["sentence"]
    page = write_page(tmp_path / "index.html", result, found).read_text("utf-8")
    assert "half re-initialised" in page and "<script" not in page and "nan" not in page.lower()
    assert (
        json.loads(json.dumps(clean(found["experts"].to_dict("records")), allow_nan=False))[0][
            "arm"
        ]
        == "k-means"
    )
