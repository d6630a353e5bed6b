"""What the analyses of EMO and zero experts compute: slopes, pools, and who skips against who is harmless."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from made import tiny_moe

import moeaudit as ma
from analyses.lab.emo import measure as emo
from analyses.lab.zero_experts import measure as skipping
from moeaudit.lab import zero


def test_the_slope_is_nats_a_halving():
    keep = [0.5, 0.25, 0.125]
    line = [{"series": "a", "keep": k, "value": 0.3 * -np.log2(k)} for k in keep]
    flat = [{"series": "b", "keep": k, "value": 0.0} for k in keep]
    found = emo.slopes(pd.DataFrame(line + flat))
    assert found == pytest.approx({"a": 0.3, "b": 0.0})


def test_pools_of_a_model_beside_random_ones_and_one_for_all():
    model = tiny_moe.load("olmoe")
    assert emo.sizes_of(model) == [8, 4, 3]
    docs = [tiny_moe.ids(12, seed) for seed in range(3)]
    table = emo.pools(model, docs, [tiny_moe.ids(12, 9)], draws=2)
    wide = table.pivot(index="size", columns="series", values="value")
    assert list(wide.index) == [3, 4, 8] and (wide.loc[8] == 0).all()
    assert (wide.loc[3].abs() > 1e-4).all() and wide.loc[3].nunique() == 3
    own = ma.ablate(model, docs, ma.DocumentPool(4)).delta_nll.mean()
    assert wide.loc[4, emo.OWN] == pytest.approx(own)


def test_who_skips_is_correlated_with_the_census_within_documents():
    model = tiny_moe.load("olmoe")
    student = ma.load(zero.add_zero_experts(tiny_moe.build("olmoe"), 4, weight=1.0, seed=1))
    docs = [tiny_moe.ids(14, seed) for seed in range(3)]
    trace, seen = ma.capture(model, docs), ma.capture(student, docs)
    table = skipping.link(model, trace, student, seen, docs)
    assert set(table.about) == set(skipping.ABOUT) and set(table.layer) == {-1, 0, 1, 2}
    assert table.rho.between(-1, 1).all()
    effects = ma.ablate(model, docs, ma.Zero(), layers=[1])
    picks = zero.zero_picks(student, seen)
    by_hand = []
    for document in range(3):
        mine = effects[effects.document == document].groupby("position").kl.mean()
        here = picks[(picks.document == document) & (picks.layer == 1)].set_index("position")
        by_hand.append(scipy.stats.spearmanr(here.skipped, mine)[0])
    row = table[(table.about == "kl") & (table.layer == 1)].iloc[0]
    assert row.rho == pytest.approx(np.mean(by_hand), abs=1e-6) and row.documents == 3
    assert row.low <= row.rho <= row.high
    assert np.isnan(skipping.spearman(np.zeros(5), np.arange(5.0)))
