"""`ablate` as its user meets it: inputs, columns, shards, refusals."""

import numpy as np
import pandas as pd
import pytest
import torch
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.causal.effects import COLUMNS
from moeaudit.errors import InputError, ModelError, RunError


@pytest.fixture(scope="module")
def model():
    return tiny_moe.load("deepseek_v2")


@pytest.fixture(scope="module")
def effects(model):
    return ma.ablate(model, [tiny_moe.ids(12), tiny_moe.ids(9, seed=1)], ma.Zero())


def test_columns_and_order(effects):
    assert list(effects.columns) == list(COLUMNS)
    assert {name: str(kind) for name, kind in effects.dtypes.items()} == COLUMNS
    assert not effects.isna().any().any()
    key = ["document", "position", "layer", "rank"]
    assert not effects.duplicated(key).any()
    assert effects[key].equals(effects[key].sort_values(key))


def test_every_active_expert_of_every_token_is_a_row(model, effects):
    tokens = {0: 11, 1: 8}  # the last position of a document predicts nothing known
    assert effects.groupby("document").position.nunique().to_dict() == tokens
    assert sorted(effects.layer.unique()) == [1, 2]  # layer 0 is dense and is not counted
    assert len(effects) == sum(tokens.values()) * 2 * 3
    assert (effects.groupby(["document", "position", "layer"]).expert.nunique() == 3).all()


def test_rank_zero_is_the_largest_weight(effects):
    falling = effects.groupby(["document", "position", "layer"]).weight.apply(
        lambda w: (w.diff().dropna() <= 0).all()
    )
    assert falling.all()


def test_metadata_survives_a_selection(effects):
    some = effects[effects.layer == 2].sample(4, random_state=0)
    assert some.question.name == "zero" and some.texts is effects.texts
    assert "wavefront" in some.engine


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, list])
def test_token_documents_may_be_arrays_tensors_or_lists(model, effects, kind):
    again = ma.ablate(model, [kind(tiny_moe.ids(12)), kind(tiny_moe.ids(9, seed=1))])
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(effects))


def test_long_documents_are_cut_and_positions_run_on(model):
    ids = tiny_moe.ids(70)
    effects = ma.ablate(model, [ids], max_length=32)
    assert any("cut" in note or "chunk" in note or "piece" in note for note in effects.notes)
    assert effects.position.max() >= 60
    chunk = effects.texts.chunks[1]
    alone = ma.ablate(model, [chunk.ids])
    inside = effects[effects.position.between(chunk.start, chunk.start + len(chunk.ids) - 2)]
    np.testing.assert_allclose(inside.delta_nll, alone.delta_nll, atol=1e-5)


def test_streaming_to_parquet_gives_the_same_table(model, effects, tmp_path):
    docs = [tiny_moe.ids(12), tiny_moe.ids(9, seed=1)]
    seen = []
    stored = ma.ablate(model, docs, out=tmp_path / "effects", progress=seen.append)
    assert stored.rows == len(effects) == sum(seen)
    pd.testing.assert_frame_equal(pd.DataFrame(stored.read()), pd.DataFrame(effects))
    again = ma.ablate(model, docs, out=tmp_path / "effects")  # the same call opens what is there
    assert again.rows == stored.rows == sum(seen)
    with pytest.raises(RunError, match="another question.*texts is"):
        ma.ablate(model, docs[:1], out=tmp_path / "effects")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(RunError, match="not empty"):
        ma.ablate(model, docs, out=tmp_path / "other")


def test_blocks_of_positions_keep_the_order(model, effects, monkeypatch):
    budgets.use(monkeypatch, residuals=1)  # one position at a time
    again = ma.ablate(model, [tiny_moe.ids(12), tiny_moe.ids(9, seed=1)])
    assert again[["document", "position", "layer", "rank"]].equals(
        effects[["document", "position", "layer", "rank"]]
    )
    np.testing.assert_allclose(again.delta_nll, effects.delta_nll, atol=1e-5)


def test_unknown_and_dense_layers_are_named(model):
    with pytest.raises(InputError, match=r"Layer 0 is a dense layer.*\[1, 2\]"):
        ma.ablate(model, [tiny_moe.ids(5)], layers=[0])
    with pytest.raises(InputError, match="Layer 9 does not exist"):
        ma.ablate(model, [tiny_moe.ids(5)], layers=[9])
    with pytest.raises(InputError, match="No layer was named"):
        ma.ablate(model, [tiny_moe.ids(5)], layers=[])


def test_token_ids_outside_the_vocabulary_are_refused(model):
    with pytest.raises(InputError, match=rf"{tiny_moe.VOCABULARY}"):
        ma.ablate(model, [np.array([1, 2, tiny_moe.VOCABULARY])])


def test_a_length_the_model_cannot_read_is_refused(model):
    with pytest.raises(InputError, match="max_length = 65"):
        ma.ablate(model, [tiny_moe.ids(5)], max_length=65)


def test_text_without_a_tokenizer_is_refused(model):
    with pytest.raises(InputError, match="tokenizer"):
        ma.ablate(model, ["some words"])


def test_logits_that_are_nan_on_some_text_are_refused(tmp_path):
    built = tiny_moe.build("olmoe")
    model = ma.load(built)
    ids = tiny_moe.ids(9)
    with torch.no_grad():
        built.model.embed_tokens.weight[int(ids[4])] = float("nan")
    with pytest.raises(ModelError, match=r"NaN or infinite, the first in document 0 at position"):
        ma.ablate(model, [ids], out=tmp_path / "effects")
    assert not (tmp_path / "effects").exists()
