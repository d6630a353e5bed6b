"""The edited top prediction: that of whole logits, on every road, and beside the columns that were there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.outcomes.compare import compare
from moeaudit.errors import InputError, RunError
from moeaudit.models.forward import answering

DOCS = [tiny_moe.ids(9, seed) for seed in range(3)]


@pytest.fixture(scope="module", params=tiny_moe.ARCHITECTURES)
def model(request):
    return tiny_moe.load(request.param)


@pytest.fixture(scope="module")
def found(model):
    return ma.ablate(model, DOCS, predictions=True)


def test_every_row_names_the_largest_of_its_logits(model, found):
    rng = np.random.default_rng(0)
    for i in rng.choice(np.flatnonzero(found["flip"]), 6):
        row = found.iloc[int(i)]
        layer = model.anatomy[int(row["layer"])]

        def without(hidden, index, weight, row=row):  # noqa: ARG001
            gone = weight.clone()
            gone[int(row["position"])] *= index[int(row["position"])] != int(row["expert"])
            return index, gone

        with torch.no_grad(), answering(layer, without):
            ids = torch.as_tensor(DOCS[int(row["document"])])[None]
            logits = model.hf(input_ids=ids).logits[0, int(row["position"])]
        assert int(logits.argmax()) == row["top"]


def test_the_other_columns_stay_and_rows_that_do_not_flip_keep_the_clean_top(model, found):
    plain = ma.ablate(model, DOCS)
    assert list(found.columns) == [*plain.columns, "top"] and found["top"].dtype == "int32"
    assert found[plain.columns].equals(plain)
    tokens = ma.capture(model, DOCS).tokens
    clean = found.merge(tokens, on=["document", "position"], suffixes=("", "_clean"))
    assert ((clean["top"] != clean["top_clean"]) == clean["flip"]).all()
    assert found["flip"].any() and not found["flip"].all()


@pytest.mark.parametrize("horizon", [0, 2])
def test_blocks_of_rows_and_of_words_agree(model, horizon):
    """A function of one's own needs whole logits, and sends every row down the other road."""

    def spread(clean, edited, target):  # noqa: ARG001
        return edited.amax(-1) - edited.mean(-1)

    by_words = ma.ablate(model, DOCS, horizon=horizon, predictions=True)
    by_rows = ma.ablate(model, DOCS, horizon=horizon, outcomes=[spread], predictions=True)
    assert (by_words["top"] == by_rows["top"]).all()
    small = ma.ablate(model, DOCS, horizon=horizon, predictions=True, memory="400KiB")
    assert (by_words["top"] == small["top"]).all()


def test_a_sample_and_a_folder_hold_the_same(model, found, tmp_path):
    key = ["document", "position", "layer", "expert"]
    part = ma.ablate(model, DOCS, share=0.4, predictions=True)
    both = pd.DataFrame(part).merge(pd.DataFrame(found), on=key, suffixes=("", "_all"))
    assert len(both) == len(part) and (both["top"] == both["top_all"]).all()
    folder = ma.ablate(model, DOCS, predictions=True, out=tmp_path / "e")
    assert folder.read()["top"].equals(found["top"])
    with pytest.raises(RunError, match="predictions"):
        ma.ablate(model, DOCS, out=tmp_path / "e")


def test_copies_of_whole_documents_say_it_too(model):
    for operator in (ma.Everywhere(ma.Zero()), ma.Without({model.anatomy.indices[0]: [0, 1]})):
        found = ma.ablate(model, DOCS, operator, predictions=True)
        tokens = ma.capture(model, DOCS).tokens
        both = pd.DataFrame(found).merge(
            tokens, on=["document", "position"], suffixes=("", "_clean")
        )
        assert ((both["top"] != both["top_clean"]) == both["flip"]).all() and both["flip"].any()


def test_the_first_of_equal_logits_is_the_top():
    clean = torch.tensor([[0.0, 2.0, 1.0, 0.0]])
    edited = torch.tensor([[[0.0, 1.0, 3.0, 3.0], [0.0, 5.0, 5.0, 0.0], [9.0, 1.0, 1.0, 0.0]]])
    found = compare(clean, edited, torch.tensor([0]), tops=True)
    assert found.top is not None and found.top.tolist() == [[2, 1, 0]]
    assert found.flip.tolist() == [[True, False, True]]
    assert compare(clean, edited, torch.tensor([0])).top is None


def test_no_outcome_may_take_the_name(model):
    def top(clean, edited, target):  # noqa: ARG001
        return edited.amax(-1)

    with pytest.raises(InputError, match="'top'"):
        ma.ablate(model, DOCS, outcomes=[top])
