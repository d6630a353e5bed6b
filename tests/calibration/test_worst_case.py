"""The tilt against brute force, its null, and the closed-form example of routing under shift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from moeaudit.calibration import Predictions, signed_gap
from moeaudit.calibration.shift.worst_case import worst_case
from moeaudit.calibration.shift.worst_case_tilt import worst_mean, worst_means
from moeaudit.errors import InputError


def brute(pi, g, radius):
    """The same maximum by a general optimiser over the simplex."""
    kl = lambda q: float(np.sum(q * np.log(np.maximum(q, 1e-300) / pi)))  # noqa: E731
    best = -np.inf
    for start in range(6):
        rng = np.random.default_rng(start)
        q0 = 0.9 * pi + 0.1 * rng.dirichlet(np.ones(len(pi)))
        found = minimize(
            lambda q: -q @ g,
            q0,
            method="SLSQP",
            bounds=[(1e-12, 1)] * len(pi),
            constraints=[
                {"type": "eq", "fun": lambda q: q.sum() - 1},
                {"type": "ineq", "fun": lambda q: radius - kl(q)},
            ],
            options={"maxiter": 500, "ftol": 1e-14},
        )
        if abs(found.x.sum() - 1) < 1e-9 and kl(found.x) <= radius + 1e-9:
            best = max(best, found.x @ g)
    return best


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.7])
def test_the_tilt_is_what_brute_force_finds(radius):
    rng = np.random.default_rng(0)
    for _ in range(3):
        pi, g = rng.dirichlet(np.ones(5)), rng.normal(0, 0.2, 5)
        tilt = worst_mean(pi, g, radius)
        assert tilt.value == pytest.approx(brute(pi, g, radius), abs=1e-6)
        assert tilt.kl == pytest.approx(radius, abs=1e-9)
        assert tilt.mix.sum() == pytest.approx(1)
        assert tilt.value == pytest.approx(float(tilt.mix @ g))
        weights = pi * np.exp(tilt.multiplier * g)
        np.testing.assert_allclose(tilt.mix, weights / weights.sum(), atol=1e-9)


def test_many_at_once_are_the_same_as_one_by_one():
    rng = np.random.default_rng(4)
    pi, g = rng.dirichlet(np.ones(6), 40), rng.normal(0, 0.2, (40, 6))
    pi[3], g[4] = [0, 0.5, 0.5, 0, 0, 0], 0.1
    for radius in (1e-3, 0.1, 0.69, 3.0):
        want = [worst_mean(p, x, radius).value for p, x in zip(pi, g)]
        np.testing.assert_allclose(worst_means(pi, g, radius), want, atol=1e-9)


def test_a_large_radius_reaches_the_worst_configuration():
    tilt = worst_mean(np.array([0.5, 0.3, 0.2]), np.array([0.0, -0.1, 0.4]), 2.0)
    assert tilt.value == 0.4 and tilt.mix.tolist() == [0, 0, 1]
    assert tilt.kl == pytest.approx(-np.log(0.2))
    flat = worst_mean(np.array([0.5, 0.5]), np.array([0.1, 0.1]), 0.3)
    assert flat.value == pytest.approx(0.1) and flat.kl == pytest.approx(0)
    absent = worst_mean(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.1, 9.0]), 5.0)
    assert absent.value == pytest.approx(0.1)


def soft_and_hard(mix, n=1000):
    """Two experts that always say 0.5, and three configurations of router weight on the first.

    P(Y = 1 | configuration) = .6, .3, .6. Outcomes are laid out exactly, no noise. Soft: the
    answer is the mixture's, 0.5. Hard: each expert's own inputs hold as many 1s as 0s.
    """
    configuration = np.repeat(["r1=.2", "r1=.5", "r1=.8"], (np.array(mix) * n).astype(int))
    right = {"r1=.2": 0.6, "r1=.5": 0.3, "r1=.8": 0.6}
    outcome = np.zeros(len(configuration), bool)
    expert = np.empty(len(configuration), object)
    hard = np.zeros(len(configuration), bool)
    for name, share in right.items():
        rows = np.flatnonzero(configuration == name)
        outcome[rows[: round(share * len(rows))]] = True
        expert[rows] = "first" if name == "r1=.8" else "second"
        hard[rows[: len(rows) // 2]] = True  # E[Y | expert, confidence] = confidence
    half = np.full(len(configuration), 0.5)
    soft = Predictions.of(half, outcome, group=configuration)
    return soft, Predictions.of(half, hard, group=expert), configuration


def test_soft_routing_breaks_under_shift_and_hard_routing_does_not():
    soft, hard, configuration = soft_and_hard([1 / 3] * 3, n=3000)
    assert signed_gap(soft) == pytest.approx(0, abs=1e-12)
    # both routing-weighted experts are calibrated as well
    r1 = np.array([float(c[3:]) for c in configuration])
    for r in (r1, 1 - r1):
        assert np.average(0.5 - soft.correct, weights=r) == pytest.approx(0, abs=1e-12)
    assert signed_gap(hard) == pytest.approx(0, abs=1e-12)
    for mix, gap in (((0, 1, 0), 0.20), ((0.5, 0, 0.5), -0.10)):
        shifted, still, _ = soft_and_hard(mix, n=3000)
        assert signed_gap(shifted) == pytest.approx(gap, abs=1e-12)
        assert signed_gap(still) == pytest.approx(0, abs=1e-12)


def test_the_worst_case_of_the_example_is_found_without_seeing_the_shift():
    soft, hard, configuration = soft_and_hard([1 / 3] * 3, n=3000)
    document = np.random.default_rng(3).permutation(3000) % 100
    soft = Predictions.of(soft.confidence, soft.correct, document=document)
    table = worst_case(soft, configuration, radii=(0.1, 2.0), n_permutations=200)
    over = table[table["direction"] == "over"].set_index("radius")
    assert over.loc[2.0, "worst"] == pytest.approx(0.20, abs=1e-12)
    assert over.loc[2.0, "worst_configuration"] == "r1=.5"
    assert 0.05 < over.loc[0.1, "worst"] < 0.20
    assert (over["p"] < 0.02).all()
    under = table[table["direction"] == "under"].set_index("radius")
    assert under.loc[2.0, "worst"] == pytest.approx(-0.10, abs=1e-12)
    still = worst_case(hard, configuration, radii=(2.0,), n_permutations=50)
    np.testing.assert_allclose(still["worst"], 0, atol=1e-12)


def test_the_null_is_uniform_when_labels_say_nothing():
    """Configurations that follow documents, residuals that follow documents, no relation."""
    rng = np.random.default_rng(1)
    ps = []
    for seed in range(120):
        document = np.repeat(np.arange(20), 15)
        configuration = rng.integers(0, 4, 20)[document]
        noisy = rng.uniform(size=300) < 0.3
        configuration[noisy] = rng.integers(0, 4, noisy.sum())
        chance = np.clip(0.6 + 0.25 * rng.normal(size=20), 0, 1)[document]
        p = Predictions.of(np.full(300, 0.6), rng.uniform(size=300) < chance, document=document)
        table = worst_case(p, configuration, radii=(0.1,), n_permutations=99, seed=seed)
        ps.append(table["p"].iloc[0])
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert 0.0 <= np.mean(np.array(ps) <= 0.05) <= 0.11


def test_within_strata_the_null_keeps_what_domains_explain():
    """Domains differ in both routing and residual; within a domain there is no relation."""
    rng = np.random.default_rng(2)
    document = np.repeat(np.arange(60), 10)
    domain = np.where(document < 30, "a", "b")
    configuration = np.where(domain == "a", rng.integers(0, 2, 600), rng.integers(2, 4, 600))
    right = rng.uniform(size=600) < np.where(domain == "a", 0.9, 0.4)
    p = Predictions.of(np.full(600, 0.65), right, document=document)
    free = worst_case(p, configuration, radii=(0.2,), n_permutations=200)
    kept = worst_case(p, configuration, radii=(0.2,), within=domain, n_permutations=200)
    assert (free["p"] < 0.01).all() and (kept["p"] > 0.05).all()
    with pytest.raises(InputError, match="more than one stratum"):
        worst_case(p, configuration, within=np.arange(600) % 2)


def test_what_cannot_be_permuted_says_so():
    one = Predictions.of([0.5] * 40, [1, 0] * 20, document=["d"] * 40)
    table = worst_case(one, ["a", "b"] * 20, radii=(0.1,), n_permutations=10)
    assert table["p"].isna().all() and table["reason"].str.contains("1 document").all()
    assert table["worst"].notna().all()
    same = Predictions.of([0.5] * 40, [1, 0] * 20)
    lone = worst_case(same, ["a"] * 40, radii=(0.1,), n_permutations=10)
    assert lone["reason"].str.contains("one configuration").all()
    for radius in (0, -1.0, float("nan")):
        with pytest.raises(InputError, match="must be positive"):
            worst_case(same, ["a", "b"] * 20, radii=(radius,))
    with pytest.raises(InputError, match="add up to 1"):
        worst_mean(np.array([0.2, 0.2]), np.array([0.0, 1.0]), 0.1)
