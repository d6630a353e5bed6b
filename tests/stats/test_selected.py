"""The largest of many: picked in one half of the documents, read in the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census

from moeaudit.stats import contrast, expert_harm
from moeaudit.stats.families.selected import HALVINGS, halvings, held_out, held_out_columns


def test_by_hand():
    one = np.array([[0.1, -0.5, 0.2], [0.3, 0.1, np.nan]])
    other = np.array([[0.4, -0.2, 0.1], [-0.2, 0.1, 0.9]])
    # First halving: -0.5 wins in one, reads -0.2 (agrees: +0.2); 0.4 wins in the other, reads 0.1.
    # Second: 0.3 reads -0.2 (disagrees); 0.9 reads nothing.
    assert held_out(one, other) == pytest.approx((0.2 + 0.1 - 0.2 + 0.0) / 4)
    for same in (held_out(other, one), held_out(-one, -other)):
        assert same == pytest.approx(held_out(one, other))
    columns = held_out_columns(["a", "b", "a"], np.array([True, True, False]), one, other)
    assert columns["largest_held_out"] == pytest.approx([held_out(one[:, :2], other[:, :2])] * 3)
    a = held_out(one[:, :1], other[:, :1])
    assert columns["metric_largest_held_out"][[0, 2]] == pytest.approx([a, a])


def test_halves_are_halves_and_seeded():
    weights = halvings(11, 3)
    assert weights.shape == (HALVINGS, 11) and set(weights.sum(axis=1)) == {5.0}
    np.testing.assert_array_equal(weights, halvings(11, 3))
    assert (weights != halvings(11, 4)).any()


def test_without_effects_the_winner_keeps_nothing_and_an_effect_keeps_its_size():
    rng = np.random.default_rng(0)
    truth = np.zeros(40)
    lost, kept, seen = [], [], []
    for effect, found in ((0.0, lost), (1.0, kept)):
        truth[7] = effect
        for _ in range(200):
            sums = truth + rng.normal(size=(60, 40))
            weights = halvings(60, 0)[:20]
            one, other = (w @ sums / w.sum(axis=1, keepdims=True) for w in (weights, 1 - weights))
            found.append(held_out(one, other))
            if not effect:
                seen.append(np.abs(sums.mean(axis=0)).max())
    assert np.mean(seen) > 0.25  # the plain winner of nothing
    assert abs(np.mean(lost)) < 0.04
    assert np.mean(kept) == pytest.approx(1.0, abs=0.03)


def test_contrast_reads_the_winner_by_hand():
    effects, metrics = census(documents=8, slope=0.3)
    table = contrast(effects, metrics, seed=2, **QUICK)
    cells = table[(table.role == "metric")]
    one, other = _d_z(effects, metrics, halvings(8, 2))
    want = [held_out(one, other)] * 4
    assert list(cells.largest_held_out) == pytest.approx(want, abs=1e-12)
    of_id = cells[cells.metric == "id"].metric_largest_held_out
    assert of_id.nunique() == 1 and len(of_id) == 2
    control = table[table.metric == "gate_weight"]
    assert set(control.largest_held_out) == set(control.metric_largest_held_out)


def _d_z(effects, metrics, weights):
    """d_z of the four metric cells in both halves, from the pairs of every token."""
    sides = []
    for w in (weights, 1 - weights):
        rows = []
        for half in w.astype(bool):
            part = effects[effects.document.isin(np.flatnonzero(half))]
            row = []
            for name in ("id", "odd"):
                for layer in (1, 2):
                    value = metrics[(metrics.metric == name) & (metrics.layer == layer)]
                    score = value.set_index("expert")["value"]
                    mine = part[part.layer == layer]
                    mine = mine.assign(s=mine.expert.map(score))
                    token = mine.groupby(["document", "position"])
                    top, low = token["s"].transform("max"), token["s"].transform("min")
                    high = mine[mine.s == top].groupby(["document", "position"]).delta_nll.mean()
                    less = mine[mine.s == low].groupby(["document", "position"]).delta_nll.mean()
                    d = (high - less)[token["s"].max() > token["s"].min()]
                    row.append(d.mean() / d.std(ddof=1))
            rows.append(row)
        sides.append(np.array(rows))
    return sides


def test_ranking_puts_the_winner_on_the_scale_of_all_documents():
    # A metric that is the harm itself: in halves its rho is lower, and that is given back.
    rng = np.random.default_rng(1)
    effects, _ = census(documents=40, experts=16, layers=(1,), slope=0.0, seed=3)
    true = rng.normal(size=16)
    effects["delta_nll"] = effects["delta_nll"] + true[effects["expert"]]
    metrics = _metric(true)
    row = expert_harm(effects, metrics, **QUICK).iloc[0]
    assert row.largest_held_out == row.metric_largest_held_out  # one cell is its own winner
    assert row.largest_held_out == pytest.approx(row.rho, abs=0.05)
    noise = _metric(rng.normal(size=16), "noise")
    both = expert_harm(effects, noise, **QUICK).iloc[0]
    assert abs(both.largest_held_out) <= abs(both.rho) + 0.1


def _metric(values, name="true"):
    return pd.DataFrame({"layer": 1, "expert": range(len(values)), "metric": name, "value": values})
