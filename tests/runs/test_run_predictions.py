"""What a run keeps so that a page can say what was predicted, and who is next in line."""

from __future__ import annotations

import shutil

import pandas as pd

import moeaudit as ma
from moeaudit.report.explore import data


def test_a_run_holds_predictions_their_texts_and_who_is_next(finished, tiny_model):
    effects, tokens, routing = finished.effects, finished.tokens, finished.routing
    both = effects.merge(tokens, on=["document", "position"], suffixes=("", "_clean"))
    assert ((both["top"] != both["top_clean"]) == both["flip"]).all() and both["flip"].any()
    words = finished.vocabulary
    assert words["token"].tolist() == list(range(tiny_model.vocab_size))
    known = words.set_index("token")["text"]
    assert (known[tokens["token"]].to_numpy() == tokens["text"].to_numpy()).all()
    beside = routing.groupby(["document", "position", "layer"])["expert"].agg(set).rename("own")
    joined = routing.merge(beside.reset_index(), on=["document", "position", "layer"])
    assert all(0 <= e < 8 and e not in own for e, own in zip(joined["next"], joined["own"]))
    assert (
        "top" not in finished.question.outcomes
    )  # nothing else is asked: the question is what it was


def test_the_page_reads_them_and_does_without(finished, tmp_path):
    found = data(finished)
    assert found["top_why"] is None and found["replaced"] is not None
    row = next(c["strong"][0] for c in found["contexts"] if c["strong"])
    assert row["top"] is not None and row["edited"] is not None
    old = tmp_path / "old"
    shutil.copytree(finished.folder, old)
    (old / "vocabulary.parquet").unlink()
    without = data(ma.Run.load(old))
    texts = set(pd.unique(finished.tokens["text"]))
    tops = [c["strong"][0]["top"] for c in without["contexts"] if c["strong"]]
    assert all(top is None or top in texts for top in tops)
    assert len(ma.expert(finished, 1, 0).html) > 1_000
