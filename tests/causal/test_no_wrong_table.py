"""Tables that would be read as something they are not: mixed, unfinished, of other weights, of rounding."""

import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError, RunError


@pytest.fixture(scope="module")
def model():
    return tiny_moe.load("olmoe")


def metric(model):
    rows = [
        (layer.index, expert, "number", expert)
        for layer in model.anatomy.layers
        for expert in range(layer.num_experts)
    ]
    return pd.DataFrame(rows, columns=["layer", "expert", "metric", "value"])


@pytest.mark.parametrize("ask", [ma.contrast, ma.expert_harm])
def test_metrics_are_held_only_against_rows_of_one_expert_each(model, ask):
    docs = [tiny_moe.ids(9, seed) for seed in range(8)]
    removed, renormalized = ma.ablate(model, docs[:4]), ma.ablate(model, docs[4:], ma.Renormalize())
    renormalized["document"] += 4
    with pytest.raises(InputError, match="different questions"):
        ask(pd.concat([removed, renormalized], ignore_index=True), metric(model))
    for operator in (ma.Skip(), ma.Coalitions((2,)), ma.Swap("all"), ma.Without({1: [0]})):
        with pytest.raises(InputError, match="not one for each active expert"):
            ask(ma.ablate(model, docs[:4], operator), metric(model))


def test_a_table_that_lost_a_shard_is_not_read_as_whole(model, tmp_path, monkeypatch):
    import moeaudit.causal.streaming as streaming

    monkeypatch.setattr(streaming, "_DOCUMENTS", 1)
    ma.ablate(model, [tiny_moe.ids(9, seed) for seed in range(3)], out=tmp_path / "effects")
    manifest = tmp_path / "effects" / "manifest.json"
    found = json.loads(manifest.read_text())
    found["shards"].popitem()
    manifest.write_text(json.dumps(found))
    with pytest.raises(RunError, match="2 of 3 shards"):
        ma.effects(tmp_path / "effects")


def test_effects_of_other_weights_are_not_verified(model):
    effects = ma.ablate(model, [tiny_moe.ids(9)])
    with pytest.raises(InputError, match="measured on other weights"):
        ma.verify(effects, tiny_moe.load("olmoe", seed=1))


def test_outputs_collected_beside_another_pass_are_the_models_own(model):
    docs = [tiny_moe.ids(20, seed) for seed in range(3)]
    alone = ma.expert_outputs(model, docs).sha256
    removed = ma.Without({1: list(range(6))}, rule="zero")
    stop, failed = threading.Event(), []

    def others():
        try:
            while not stop.is_set():
                ma.ablate(model, docs[:1], removed)
        except Exception as error:  # raised again below
            failed.append(error)

    beside = threading.Thread(target=others)
    beside.start()
    try:
        hashes = {ma.expert_outputs(model, docs).sha256 for _ in range(12)}
    finally:
        stop.set()
        beside.join()
    assert hashes == {alone} and not failed


def test_drift_beyond_rounding_is_noted(model, monkeypatch):
    import moeaudit.causal.blocks as blocks
    from moeaudit.models.precision import Rounding

    plain = ma.ablate(model, [tiny_moe.ids(9)])
    assert not any("carry no edit" in note for note in plain.notes)
    strict = Rounding(0.0, 0.0, (0.0, 0.0), (0.0, 0.0), 0.0, 0.0)
    monkeypatch.setattr(blocks, "rounding", lambda x: strict)
    noted = ma.ablate(model, [tiny_moe.ids(9)])
    (said,) = [note for note in noted.notes if "carry no edit" in note]
    assert said.endswith(
        "effects of that size are rounding."
    )  # in float32 there is nothing to advise
    half = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    advised = ma.ablate(half, [tiny_moe.ids(9)])
    assert any("carry no edit" in note and "in float32" in note for note in advised.notes)


def test_half_precision_that_only_rounds_is_not_told_to_mix_tokens(monkeypatch):
    import moeaudit.causal.walk.choice as choice

    half = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    real = choice._compared
    # In float32 the rows hold; in bfloat16 the comparison is made to be off.
    monkeypatch.setattr(
        choice,
        "_compared",
        lambda m, *a: real(m, *a) if m.dtype == torch.float32 else (9.0, 1.0, 0.0),
    )
    effects = ma.ablate(half, [tiny_moe.ids(9)])
    assert "rounding of bfloat16" in effects.engine and "mixes tokens" not in effects.engine
    assert np.isfinite(effects.delta_nll).all()
