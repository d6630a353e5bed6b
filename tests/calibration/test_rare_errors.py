"""Where errors are rare no sign flips: calibrated models are left alone, and real gaps are found.

The long version is benchmarks/calibration_rare.py; its results are in docs/methods/calibration.md.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import beta

from moeaudit.calibration import (
    Predictions,
    calibration_scores,
    reliability,
    routing_calibration,
)
from moeaudit.calibration.scores.rare import CAUTIOUS, correlation, drawn_sums, events_of, probit
from moeaudit.calibration.scores.rare_limits import rate_limits

RESIDUALS = ("gap", "ece_width_l1", "ece_mass_l1", "ece_mass_max", "smece", "kuiper", "ks")


def sure(seed: int, documents: int = 30, per: int = 60, rho: float = 0.0, factor: float = 1.0):
    """Confidences 1 - 10^U(-6, -1.5), errors `factor` times as frequent as they say; 4 groups."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(documents), per)
    c = 1 - 10 ** rng.uniform(-6, -1.5, len(document))
    common = rng.normal(size=documents)[document]
    u = ndtr(np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(size=len(c)))
    return Predictions.of(c, u >= (1 - c) * factor, document=document), rng.integers(0, 4, len(c))


def claims(runs: int, **law) -> list[str]:
    said = []
    for seed in range(runs):
        p, group = sure(seed, **law)
        table = routing_calibration(p, {"e": group}, n_flips=300, draws=20, seed=seed)
        said.append(next((v for v in table["verdict"] if "confident" in v), ""))
    return said


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_a_calibrated_model_that_is_nearly_always_right_is_not_called_under_confident(rho):
    assert sum(map(bool, claims(8, rho=rho))) <= 3  # P(more | 5 %) < 0.1 %; signs gave 8 of 8


def test_rare_errors_that_are_too_many_are_found():
    said = claims(4, factor=6.0)
    assert said.count("over-confident") >= 3 and "under-confident" not in said


def test_the_table_says_which_null_a_cell_had_and_why_limits_hold():
    rng = np.random.default_rng(0)
    p, group = sure(0)
    c = np.where(group < 2, p.confidence, rng.uniform(0.2, 0.8, len(p)))
    p = Predictions.of(
        c, np.where(group < 2, p.correct, rng.random(len(c)) < c), document=p.document
    )
    table = routing_calibration(p, {"e": group}, bins=(0, 0.9, 1), n_flips=500, draws=50)
    null = table[table["bin"] == "all"].set_index("group")["null"].to_dict()
    assert null == {
        "0": "drawn outcomes",
        "1": "drawn outcomes",
        "2": "signs of documents",
        "3": "signs of documents",
    }
    assert (table.loc[table["null"].isna(), "verdict"] == "not estimable").all()
    tested = table[table["p"].notna()]
    assert (tested["p_maxt"] >= tested["p"] - 1e-12).all()
    assert (tested["low"] <= tested["residual"]).all()
    assert (tested["low"] < tested["high"]).all()


def test_a_replication_with_rare_errors_is_drawn_too():
    p, group = sure(1, documents=60, factor=6.0)
    q, other = sure(2, documents=60)
    q = Predictions.of(
        q.confidence, q.correct, document=np.char.add("other ", q.document.astype(str))
    )
    table = routing_calibration(
        p,
        {"e": group},
        replication=q,
        replication_groups={"e": other},
        n_flips=500,
        draws=20,
    )
    found = table[table["verdict"] == "over-confident"]
    assert len(found) and (found["survives"] == False).all()  # noqa: E712
    q, other = sure(3, documents=60, factor=6.0)
    q = Predictions.of(
        q.confidence, q.correct, document=np.char.add("other ", q.document.astype(str))
    )
    table = routing_calibration(
        p, {"e": group}, replication=q, replication_groups={"e": other}, n_flips=500, draws=20
    )
    assert (table["survives"] == True).any()  # noqa: E712


def test_scores_of_rare_errors_keep_their_level_and_their_limits_hold():
    """20 x 25 confidences above 0.995: signs gave p <= .05 in 99 % of ECEs, limits held 72 % of gaps."""
    held, low = 0, dict.fromkeys(RESIDUALS, 0)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        c = rng.uniform(0.995, 0.9999, 500)
        p = Predictions.of(c, rng.random(500) < c, document=np.arange(500) // 25)
        table = calibration_scores(p, by=None, draws=60, seed=seed).set_index("score")
        held += bool(table.loc["gap", "low"] <= 0 <= table.loc["gap", "high"])
        for score in RESIDUALS:
            low[score] += bool(table.loc[score, "p_documents"] <= 0.05)
        assert "few errors" in table.loc["gap", "reason"]
        assert "no limits" in table.loc["brier", "reason"]
    assert held >= 5 and max(low.values()) <= 2


def test_limits_of_a_rate_are_those_of_clopper_and_pearson():
    event = np.arange(200) < 3
    document = np.arange(200)
    low, high = rate_limits(event, np.ones(200), document, 0.95)
    n = 199  # each row its own document: a design effect of 200 / 199
    assert low == pytest.approx(beta.ppf(0.025, n * 0.015, n - n * 0.015 + 1))
    assert high == pytest.approx(beta.ppf(0.975, n * 0.015 + 1, n - n * 0.015))
    assert rate_limits(np.zeros(100, bool), np.ones(100), np.arange(100) // 5, 0.95) == (
        0.0,
        pytest.approx(1 - 0.025 ** (1 / 100)),
    )
    # all errors in one document are worth one error, or so
    wide = rate_limits(event, np.ones(200), np.arange(200) // 10, 0.95)
    assert wide[1] > high


def test_bins_of_the_reliability_table_without_an_error_have_limits():
    rng = np.random.default_rng(0)
    c = rng.uniform(0.995, 0.9999, 500)
    p = Predictions.of(c, np.ones(500), document=np.arange(500) // 25)
    table = reliability(p, bins=2, draws=60)
    assert (table["gap_low"] < table["gap"]).all() and (table["gap_high"] > 0).all()
    assert table["reason"].str.contains("0 seen").all()


def test_drawn_outcomes_have_the_confidences_mean_and_the_copulas_dependence():
    rng = np.random.default_rng(0)
    c = np.tile([0.9, 0.97, 0.2], 40)
    p = Predictions.of(c, np.ones(120), document=np.arange(120) // 60)
    drawn = drawn_sums(p, np.eye(120), 0.4, 20_000, rng)
    y = c - drawn
    np.testing.assert_allclose(y.mean(axis=0), c, atol=0.012)
    a, b = rng.standard_normal((2, 400_000))
    z = np.sqrt(0.4) * a, np.sqrt(0.6)
    first = z[0] + z[1] * b < probit(np.array([0.9]))
    second = z[0] + z[1] * rng.standard_normal(400_000) < probit(np.array([0.97]))
    want = (first & second).mean() - first.mean() * second.mean()
    inside = np.mean([(drawn[:, i] * drawn[:, i + 1]).mean() for i in (0, 3, 6, 9)])
    assert inside == pytest.approx(want, rel=0.15)
    assert abs((drawn[:, 0] * drawn[:, 61]).mean()) < 0.002


def test_the_correlation_comes_back_from_above():
    found = {}
    for rho in (0.0, 0.3):
        rng = np.random.default_rng(5)
        document = np.repeat(np.arange(200), 50)
        c = rng.beta(4, 1, len(document))
        common = rng.normal(size=200)[document]
        u = ndtr(np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(size=len(c)))
        found[rho] = correlation(Predictions.of(c, u < c, document=document))
    assert 0 <= found[0.0] < 0.03 and 0.27 < found[0.3] < 0.4
    few = Predictions.of(np.full(100, 0.999), np.ones(100), document=np.arange(100) // 5)
    assert correlation(few) == CAUTIOUS
    assert correlation(Predictions.of(np.full(100, 0.999), np.ones(100))) == 0.0


def test_events_are_counted_by_the_rarer_kind_and_by_kish():
    c, y = np.r_[np.full(50, 0.9), np.full(50, 0.1)], np.r_[np.ones(50), np.zeros(45), np.ones(5)]
    found = events_of(Predictions.of(c, y, document=np.arange(100) // 10))
    assert (found.expected, found.seen) == (pytest.approx(50), 45)
    assert (found.documents, found.of_documents, found.rare) == (5, 10, True)
    mixed = np.random.default_rng(0).permutation(100)  # as many of each kind, in every document
    assert not events_of(Predictions.of(c[mixed], y[mixed], document=np.arange(100) // 10)).rare
    heavy = np.ones(100)
    heavy[50] = 100.0  # one error that outweighs all
    found = events_of(Predictions.of(c, y, document=np.arange(100) // 10, weight=heavy))
    assert found.seen == pytest.approx((100 + 44) ** 2 / (100**2 + 44)) and found.rare


@pytest.mark.parametrize("slack", [0.0, 6e-8])
def test_a_perfect_and_certain_predictor_has_p_one(slack):
    u = np.random.default_rng(0).random(100)
    p = Predictions.of(1 - slack * u, np.ones(100), document=np.repeat(np.arange(20), 5))
    table = calibration_scores(p, draws=100).set_index("score")
    for score in (*RESIDUALS, "ece_width_l2", "ece_width_max", "ece_mass_l2"):
        assert table.loc[score, "p"] == 1 and table.loc[score, "p_documents"] == 1, score
        assert table.loc[score, "low"] <= 1e-7 and table.loc[score, "high"] > 0, score
