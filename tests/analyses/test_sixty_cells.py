"""The published table as a census: planned, run, resumed, and its columns recomputed by hand."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest
from made import tiny_run
from scipy import stats

import moeaudit as ma

SMALL = ["--documents", "6", "--tokens", "12", "--machine", "laptop"]


@pytest.fixture(scope="module")
def sixty():
    return importlib.import_module("analyses.sixty_cells.__main__")


@pytest.fixture(scope="module")
def made(sixty, tmp_path_factory):
    """A model, texts, and the analysis of it."""
    folder = tmp_path_factory.mktemp("sixty")
    model = tiny_run.save(folder / "tiny")
    text = folder / "texts.jsonl"
    text.write_text("".join(f'{{"text": "{t}"}}\n' for t in tiny_run.TEXTS), encoding="utf-8")
    given = ["--out", str(folder / "out"), "--model", str(model), "--text", str(text), *SMALL]
    assert sixty.main(given) == 0
    return folder / "out", given


def test_every_cell_has_ours_and_the_recipe(made):
    out, _ = made
    cells = pd.read_parquet(out / "cells.parquet")
    metrics = cells[cells["role"] == "metric"]
    # Four metrics in the model's three layers (fewer than five), three outcomes.
    assert len(metrics) == 4 * 3 * 3 and not metrics["verdict"].isna().any()
    assert set(metrics["metric"]) == {
        "utilisation",
        "activation_norm",
        "mean_weight",
        "activation_sd",
    }
    assert {"gate_weight", "random"} <= set(cells["metric"])
    summary = pd.read_csv(out / "summary.csv").set_index("outcome")
    assert list(summary["cells"]) == [12, 12, 12]
    assert (summary["recipe, second version"] <= summary["recipe, first version"]).all()
    page = (out / "page.html").read_text("utf-8")
    assert page.count("<svg") == 3 and "nan" not in page and "Of 12 cells of signed harm" in page
    assert pd.read_csv(out / "cells.csv")["d_z"].notna().sum() == cells["d_z"].notna().sum()


def test_the_recipe_by_hand(made):
    out, _ = made
    run = ma.Run.load(out / "runs" / "tiny")
    effects, experts = run.effects, run.experts
    norm = experts[experts["metric"] == "activation_norm"].set_index(["layer", "expert"])["value"]
    effects = effects[effects["layer"] == 1].assign(
        score=lambda f: [norm[1, e] for e in f["expert"]]
    )
    pairs = [
        (
            part.loc[part["score"].idxmax(), "delta_nll"],
            part.loc[part["score"].idxmin(), "delta_nll"],
        )
        for _, part in effects.groupby(["document", "position"])
    ]
    high, low = np.array(pairs, dtype=float).T
    cells = pd.read_parquet(out / "cells.parquet").set_index(["outcome", "metric", "layer"])
    found = cells.loc[("delta_nll", "activation_norm", 1)]
    d = high - low  # fewer than 200 positions, so the recipe takes them all
    assert found["recipe_n"] == len(d)
    assert found["recipe_d"] == pytest.approx(d.mean() / d.std(), rel=1e-5)
    assert found["recipe_p_t"] == pytest.approx(stats.ttest_rel(high, low).pvalue, rel=1e-5)
    assert bool(found["recipe_claims"]) == (found["recipe_p_t"] * 12 <= 0.05)


def test_the_same_command_goes_on_and_computes_nothing_again(made, sixty, monkeypatch, capfd):
    out, given = made
    before = (out / "cells.csv").read_bytes()
    monkeypatch.setattr("moeaudit.causal.ablate", None)  # would fail if anything were removed again
    assert sixty.main([*given, "--null"]) == 0
    assert (out / "cells.csv").read_bytes() == before
    assert "false claims" in (out / "page.html").read_text("utf-8")
    assert "removals in" not in capfd.readouterr().err


def test_the_plan_comes_first_and_can_be_all(sixty, tmp_path, capfd):
    asked = ["--out", str(tmp_path / "x"), "--plan-only", "--machine", "h100", "--model"]
    three = ["allenai/OLMoE-1B-7B-0924", "Qwen/Qwen1.5-MoE-A2.7B", "deepseek-ai/DeepSeek-V2-Lite"]
    assert sixty.main([*asked, *three]) == 0
    said = capfd.readouterr().out
    for layers in ("[0, 4, 7, 11, 15]", "[0, 6, 12, 18, 23]", "[1, 7, 13, 20, 26]"):
        assert f"4 metrics x layers {layers} = 20" in said
    assert "In all: 60 cells" in said
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["--model", "tiny-olmoe", "tiny-olmoe"], "Two of the models"),
        (["--model", "nosuch"], "not a bundled model"),
        (["--documents", "-1"], "too few"),
        (["--text", "nowhere"], "nowhere"),
        (["--machine", "abacus"], "Unknown machine"),
    ],
)
def test_what_cannot_be_is_one_paragraph_and_writes_nothing(sixty, asked, why, tmp_path, capfd):
    given = ["--out", str(tmp_path / "x"), "--machine", "laptop", "--model", "tiny-olmoe", *asked]
    assert sixty.main(given) == 2
    assert why in capfd.readouterr().err
    assert not (tmp_path / "x").exists()
