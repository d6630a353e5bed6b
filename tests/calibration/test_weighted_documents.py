"""Weighted documents count by Kish's number: weights cannot buy documents."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moeaudit.calibration import (
    Predictions,
    calibration_scores,
    reliability,
    routing_calibration,
    worst_case,
)

D = np.repeat(np.arange(20), 25)


def weighted(weight: np.ndarray) -> Predictions:
    rng = np.random.default_rng(0)
    c = rng.uniform(0.2, 0.8, 500)
    return Predictions.of(c, rng.random(500) < c, document=D, weight=weight)


@pytest.mark.parametrize("heavy", [1, 3])
@pytest.mark.parametrize("elsewhere", [0.0, 1e-6])
def test_limits_need_documents_that_weigh_something(heavy, elsewhere):
    p = weighted(np.where(heavy > D, 1.0, elsewhere))
    assert p.n_documents == 20 and p.effective_documents == pytest.approx(heavy, abs=1e-3)
    table = calibration_scores(p, draws=40)
    assert table["low"].isna().all() and table["p_documents"].isna().all()
    assert "Kish" in table.set_index("score").loc["gap", "reason"]
    assert table.set_index("score")["value"].notna()["gap"]
    bins = reliability(p, bins=2, draws=40)
    assert bins["gap_low"].isna().all()
    cells = routing_calibration(
        p, {"e": ["x"] * 500}, bins=(0, 1), min_size=10, n_flips=50, draws=20
    )
    assert (cells["verdict"] == "not estimable").all()
    assert cells["reason"].str.contains("Kish|effective").all()


def test_one_heavy_document_has_no_worst_mix():
    p = weighted(np.where(D < 1, 1.0, 1e-6))
    table = worst_case(p, np.where(np.arange(500) % 2, "a", "b"), radii=(0.1,), n_permutations=20)
    assert table["reason"].str.contains("weights leave").all()


def test_limits_are_those_of_the_documents_that_count():
    rng = np.random.default_rng(1)
    light = np.where(D < 6, 1.0, 0.02) * rng.uniform(0.9, 1.1, 20)[D]
    p = weighted(light)
    assert 5 < p.effective_documents < 10 and p.counted_documents == p.effective_documents
    row = calibration_scores(p, draws=100).set_index("score").loc["gap"]
    assert pd.notna(row["low"])
    # the same documents without the light ones give much the same interval
    own = calibration_scores(p.take(D < 6), draws=400).set_index("score").loc["gap"]
    assert row["high"] - row["low"] == pytest.approx(own["high"] - own["low"], rel=0.35)


def test_without_weights_documents_count_however_long():
    length = np.arange(1, 31)
    document = np.repeat(np.arange(30), length)
    n = len(document)
    assert Predictions.of(np.full(n, 0.5), np.ones(n), document=document).effective_documents == 30
    equal = Predictions.of(np.full(n, 0.5), np.ones(n), document=document, weight=np.full(n, 0.1))
    assert equal.effective_documents == 30
