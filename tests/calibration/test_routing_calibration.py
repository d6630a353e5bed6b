"""Calibration by routing group: who is over-confident, how sure, and does it happen elsewhere too."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.calibration import Predictions
from moeaudit.calibration.routing.groups import (
    QuantileGroups,
    RouterClusters,
    cancellation,
    expert_disagreement,
    gate_entropy,
    router_vectors,
    top1_expert,
)
from moeaudit.calibration.routing.routing import routing_calibration
from moeaudit.errors import InputError


def tokens(rng, documents=80, per=40, tilt=None, first=0, noise=0.0):
    """Tokens of experts e0 to e3, right with probability confidence + tilt of the expert."""
    n = documents * per
    document = first + np.repeat(np.arange(documents), per)
    expert = np.array(["e0", "e1", "e2", "e3"])[rng.integers(0, 4, n)]
    confidence = rng.uniform(0.1, 0.9, n)
    shift = np.array([(tilt or {}).get(e, 0.0) for e in expert])
    shift = shift + noise * rng.normal(size=documents)[document - first]
    right = rng.uniform(size=n) < np.clip(confidence + shift, 0, 1)
    return Predictions.of(confidence, right, document=document), expert


def test_over_and_under_confident_experts_are_named_and_replicated():
    rng = np.random.default_rng(0)
    p, expert = tokens(rng, tilt={"e0": -0.15, "e1": 0.1})
    # elsewhere e0 is over-confident too, and e1 is calibrated
    q, other = tokens(rng, tilt={"e0": -0.15}, first=1000)
    table = routing_calibration(
        p,
        {"layer 0": expert},
        replication=q,
        replication_groups={"layer 0": other},
        n_flips=1000,
        draws=200,
    )
    whole = table[table["bin"] == "all"].set_index("group")
    assert whole["verdict"].to_dict() == {
        "e0": "over-confident",
        "e1": "under-confident",
        "e2": "not shown",
        "e3": "not shown",
    }
    assert whole.loc["e0", "residual"] == pytest.approx(-0.15, abs=0.03)
    assert whole.loc["e0", "low"] < whole.loc["e0", "residual"] < whole.loc["e0", "high"] < 0
    assert whole.loc["e0", "survives"] is True and whole.loc["e1", "survives"] is False
    assert whole.loc["e2", "survives"] is None
    assert "nothing was found" in whole.loc["e2", "reason_2"]
    # excess is what the expert adds to knowing the confidence
    assert whole.loc["e0", "excess"] == pytest.approx(-0.15 + 0.05 / 4, abs=0.03)
    assert whole.loc["e0", "excess_p_maxt"] < 0.01
    assert len(table) == 4 * 6


def test_one_number_by_hand():
    p = Predictions.of([0.3, 0.9, 0.5, 0.7], [1, 0, 1, 1], document=[0, 0, 1, 1])
    table = routing_calibration(p, {"g": ["a", "a", "b", "b"]}, bins=(0, 0.6, 1))
    rows = table.set_index(["group", "bin"])
    assert rows.loc[("a", "all"), "residual"] == pytest.approx(0.5 - 0.6)
    assert rows.loc[("b", "(0, 0.6]"), "residual"] == pytest.approx(0.5)
    assert rows.loc[("a", "(0, 0.6]"), "n"] == 1
    assert (table["verdict"] == "not estimable").all()
    assert table["reason"].str.contains("fewer than 100").all()


def test_false_claims_are_as_rare_as_promised_with_dependent_tokens():
    """Document effects with mean zero and no routing effect: at most about 5 % of tables claim."""
    rng = np.random.default_rng(1)
    claims = 0
    for seed in range(100):
        p, expert = tokens(rng, documents=30, per=30, noise=0.1)
        table = routing_calibration(
            p, {"e": expert}, bins=(0, 0.5, 1), min_size=20, n_flips=300, draws=20, seed=seed
        )
        claims += bool((table["verdict"].isin(["over-confident", "under-confident"])).any())
    assert claims <= 11  # P(more | 5 %) < 1 %


def test_small_groups_stay_in_the_table_with_their_reason():
    rng = np.random.default_rng(2)
    p, expert = tokens(rng)
    expert = np.where(np.arange(len(expert)) < 7, "rare", expert)
    table = routing_calibration(p, {"e": expert}, n_flips=100, draws=20)
    rare = table[table["group"] == "rare"]
    assert len(rare) == 6 and (rare["verdict"] == "not estimable").all()
    assert rare["reason"].notna().all() and rare["p_maxt"].isna().all()


def test_refusals():
    rng = np.random.default_rng(3)
    p, expert = tokens(rng, documents=10, per=10)
    with pytest.raises(InputError, match="no groupings"):
        routing_calibration(p, {})
    with pytest.raises(InputError, match="99 labels for 100"):
        routing_calibration(p, {"e": expert[:-1]})
    with pytest.raises(InputError, match="alpha"):
        routing_calibration(p, {"e": expert}, alpha=1.0)
    with pytest.raises(InputError, match="in both sets"):
        routing_calibration(p, {"e": expert}, replication=p, replication_groups={"e": expert})
    with pytest.raises(InputError, match="ascend from 0 to 1"):
        routing_calibration(p, {"e": expert}, bins=(0, 0.5))
    one = Predictions.of([0.5] * 300, [1, 0, 0] * 100, document=["d"] * 300)
    table = routing_calibration(one, {"e": ["x"] * 300})
    assert table["reason"].str.contains("document|tokens").all()


def test_groups_by_hand():
    expert = np.array([[3, 1], [0, 2]])
    weight = np.array([[0.2, 0.6], [0.5, 0.5]])
    assert top1_expert(expert, weight).tolist() == [1, 0]
    want = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(gate_entropy(weight), [want, np.log(2)])
    np.testing.assert_allclose(
        router_vectors(expert, weight, 4), [[0, 0.6, 0, 0.2], [0.5, 0, 0.5, 0]]
    )
    output = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    # token 0: weights 1/4 and 3/4 of two unit vectors at right angles: 2 * 3/16
    np.testing.assert_allclose(expert_disagreement(weight, output), [0.375, 0.0])
    np.testing.assert_allclose(
        cancellation(np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([2.0, 0.0])), [0.5, 0.0]
    )
    with pytest.raises(InputError, match="gate weights"):
        gate_entropy(np.zeros((1, 2)))


def test_quantiles_and_clusters_mean_the_same_elsewhere():
    rng = np.random.default_rng(4)
    cuts = QuantileGroups.of(rng.normal(size=1000), 4, "h")
    labels, counts = np.unique(cuts.label(rng.normal(size=4000)), return_counts=True)
    assert labels.tolist() == ["h1", "h2", "h3", "h4"] and (counts > 850).all()
    assert cuts.label(np.array([-9.0, 9.0])).tolist() == ["h1", "h4"]
    centres = np.eye(5)[:3] * 4
    truth = rng.integers(0, 3, 600)
    x = centres[truth] + 0.3 * rng.normal(size=(600, 5))
    found = RouterClusters.of(x, 3, seed=0)
    assert (RouterClusters.of(x, 3, seed=0).centres == found.centres).all()
    label = found.label(x)
    assert len(set(zip(truth, label))) == 3
    moved = found.label(centres)
    assert [moved[t] for t in truth] == label.tolist()
    with pytest.raises(InputError, match="different ones"):
        RouterClusters.of(np.zeros((10, 2)), 3)
