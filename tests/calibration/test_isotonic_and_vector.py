"""Isotonic maps and vector scaling against their definitions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from moeaudit.calibration.recalibrate.isotonic import fit_isotonic
from moeaudit.calibration.recalibrate.vector import fit_vector
from moeaudit.errors import InputError


def test_isotonic_by_hand():
    c = np.array([0.1, 0.2, 0.3, 0.4, 0.4, 0.9])
    y = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    fit = fit_isotonic(c, y)
    # 0.2 and 0.3 pool to a half; 0.4 (twice right) and 0.9 (wrong) pool to two thirds
    want = [0.0, 0.5, 0.5, 2 / 3, 2 / 3, 2 / 3]
    np.testing.assert_allclose(fit.apply(c)[0], want)
    np.testing.assert_allclose(fit.apply(np.array([0.0, 0.15, 1.0]))[0], [0.0, 0.25, 2 / 3])


def test_isotonic_agrees_with_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic", reason="scikit-learn is the oracle")
    rng = np.random.default_rng(0)
    c = np.round(rng.uniform(size=800), 2)
    y = (rng.uniform(size=800) < c**2).astype(float)
    w = rng.uniform(0.1, 2, size=800)
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(c, y, sample_weight=w)
    new = rng.uniform(size=500)
    np.testing.assert_allclose(
        fit_isotonic(c, y, weight=w).apply(new)[0], theirs.predict(new), atol=1e-6
    )


def test_isotonic_groups_fall_back_and_unseen_rows_are_counted():
    rng = np.random.default_rng(1)
    c = rng.uniform(size=620)
    group = np.repeat(["p", "q", "r"], [300, 300, 20])
    y = rng.uniform(size=620) < np.where(group == "q", c / 2, c)
    fit = fit_isotonic(c, y, group=group, min_size=100)
    assert fit.n_fallback == 1 and "20 rows" in str(fit.reason[2])
    at = np.full(4, 0.8)
    out, unseen = fit.apply(at, np.array(["p", "q", "r", "s"]))
    assert unseen == 1 and out[2] == out[3] == fit.overall(at)[0]
    assert out[1] < out[0] - 0.2
    with pytest.raises(InputError, match="by group"):
        fit.apply(at)


def test_a_single_outcome_gives_a_flat_map():
    fit = fit_isotonic(np.array([0.2, 0.7]), np.array([True, True]))
    np.testing.assert_allclose(fit.apply(np.array([0.1, 0.9]))[0], 1.0)
    with pytest.raises(InputError, match="at least one"):
        fit_isotonic(np.array([]), np.array([]))


def vector_data(rng, rows=4000):
    z = 2 * rng.normal(size=(rows, 3))
    out = z * np.array([0.5, 1.0, 1.5]) + np.array([0.4, 0.0, -0.4])
    u = -np.log(-np.log(rng.uniform(size=z.shape)))
    return z, (out + u).argmax(axis=1)


def test_vector_scaling_recovers_factors_and_offsets():
    z, y = vector_data(np.random.default_rng(2), 40_000)
    fit = fit_vector(z, y)
    np.testing.assert_allclose(fit.factor, [0.5, 1.0, 1.5], atol=0.05)
    np.testing.assert_allclose(fit.offset, [0.4, 0.0, -0.4], atol=0.05)
    assert fit.nll_after < fit.nll_before


def test_vector_scaling_is_the_minimum():
    z, y = vector_data(np.random.default_rng(3), 500)

    def loss(theta):
        out = z * theta[:3] + np.append(theta[3:], 0)
        out -= out.max(axis=1, keepdims=True)
        return np.mean(np.log(np.exp(out).sum(axis=1)) - out[np.arange(500), y])

    want = minimize(loss, [1.0, 1.0, 1.0, 0.0, 0.0], method="BFGS")
    fit = fit_vector(z, y)
    assert fit.nll_after == pytest.approx(want.fun, abs=1e-7)
    np.testing.assert_allclose(fit.factor, want.x[:3], atol=1e-3)


def test_vector_scaling_refuses_a_vocabulary_and_absent_classes():
    with pytest.raises(InputError, match="use a temperature"):
        fit_vector(np.zeros((10, 6)), np.arange(10) % 6)
    with pytest.raises(InputError, match="no label"):
        fit_vector(np.random.default_rng(4).normal(size=(30, 3)), np.arange(30) % 2)
