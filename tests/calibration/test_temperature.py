"""Temperatures: the true one is found, in memory, in pieces and from the grid alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from moeaudit.calibration.recalibrate.temperature.grid import TemperatureGrid
from moeaudit.calibration.recalibrate.temperature.temperature import (
    binary_logits,
    fit_temperature,
    fit_temperature_streaming,
)
from moeaudit.errors import InputError


def drawn(rng, rows, classes, temperature, scale=2.0):
    """Logits z and labels drawn from softmax(z / temperature)."""
    z = scale * rng.normal(size=(rows, classes))
    u = -np.log(-np.log(rng.uniform(size=z.shape)))
    return z, (z / np.broadcast_to(temperature, (rows,))[:, None] + u).argmax(axis=1)


def loss(z, y, t):
    z = z / t
    top = z.max(axis=1)
    return float(
        np.mean(np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(y)), y])
    )


def test_the_true_temperature_comes_back_by_group():
    rng = np.random.default_rng(0)
    true = {"a": 0.6, "b": 1.0, "c": 2.5}
    group = np.array(list(true))[rng.integers(3, size=60_000)]
    z, y = drawn(rng, len(group), 6, [true[g] for g in group])
    fit = fit_temperature(z, y, group=group)
    assert fit.groups == ["a", "b", "c"]
    np.testing.assert_allclose(fit.temperature, list(true.values()), rtol=0.03)
    assert fit.reason == [None] * 3 and fit.n_fallback == 0
    got, unseen = fit.of_rows(np.array(["c", "new", "a"]), 3)
    np.testing.assert_allclose(got, [fit.temperature[2], fit.overall, fit.temperature[0]])
    assert unseen == 1


def test_it_is_the_minimum_of_the_loss():
    rng = np.random.default_rng(1)
    z, y = drawn(rng, 700, 5, 1.7)
    want = minimize_scalar(
        lambda t: loss(z, y, t), bounds=(0.1, 10), method="bounded", options={"xatol": 1e-10}
    )
    fit = fit_temperature(z, y)
    assert fit.overall == pytest.approx(want.x, rel=1e-6)
    assert fit.nll_after[-1] == pytest.approx(want.fun, abs=1e-12)
    assert fit.nll_before[-1] == pytest.approx(loss(z, y, 1.0), abs=1e-12)
    p = np.exp(fit.log_probabilities(z))
    assert -np.log(p[np.arange(700), y]).mean() == pytest.approx(want.fun, abs=1e-12)


def test_weights_are_repetitions():
    rng = np.random.default_rng(2)
    z, y = drawn(rng, 400, 4, 1.5)
    times = rng.integers(0, 4, size=400)
    whole = fit_temperature(np.repeat(z, times, axis=0), np.repeat(y, times))
    assert fit_temperature(z, y, weight=2.0 * times).overall == pytest.approx(whole.overall, 1e-8)


def test_streaming_and_grid_agree_with_the_whole():
    rng = np.random.default_rng(3)
    group = np.repeat(["x", "y"], [1500, 900])
    z, y = drawn(rng, 2400, 50, np.repeat([0.8, 1.9], [1500, 900]))
    whole = fit_temperature(z, y, group=group)
    code = (group == "y").astype(int)

    def pieces():
        for start in range(0, 2400, 317):
            part = slice(start, start + 317)
            yield z[part], y[part], code[part], None

    stream = fit_temperature_streaming(pieces, groups=["x", "y"])
    np.testing.assert_allclose(stream.temperature, whole.temperature, rtol=1e-8)
    assert stream.overall == pytest.approx(whole.overall, rel=1e-8)
    parts = [TemperatureGrid.of(a, b) for a, b, _, _ in pieces()]
    grid = TemperatureGrid.joined(parts)
    fitted = grid.fit(group=group)
    np.testing.assert_allclose(fitted.temperature, whole.temperature, rtol=1e-4)
    np.testing.assert_allclose(fitted.nll_after, whole.nll_after, atol=5e-6)
    # and the grid's rows at those temperatures are the rows of the logits
    t, _ = whole.of_rows(group, 2400)
    nll, confidence = grid.at(t)
    log_p = whole.log_probabilities(z, group)
    np.testing.assert_allclose(nll, -log_p[np.arange(2400), y], atol=2e-4)
    np.testing.assert_allclose(confidence, np.exp(log_p.max(axis=1)), atol=2e-5)


def test_small_groups_use_the_global_temperature_and_are_counted():
    rng = np.random.default_rng(4)
    group = np.repeat(["big", "small"], [500, 20])
    z, y = drawn(rng, 520, 3, 2.0)
    fit = fit_temperature(z, y, group=group, min_size=50)
    assert fit.n_fallback == 1 and fit.temperature[1] == fit.overall
    assert "20 rows are fewer than 50" in str(fit.reason[1])
    frame = fit.frame()
    assert frame["group"].tolist() == ["all", "big", "small"]
    assert frame["n"].tolist() == [520, 500, 20]


def test_a_fit_that_ends_at_its_bound_says_so():
    z = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    right = fit_temperature(z, np.array([0, 1, 0]), bounds=(0.1, 10.0))
    assert right.overall == pytest.approx(0.1) and "every prediction is right" in str(
        right.overall_reason
    )
    wrong = fit_temperature(z, np.array([1, 0, 1]), bounds=(0.1, 10.0))
    assert wrong.overall == pytest.approx(10.0) and "worse than uniform" in str(
        wrong.overall_reason
    )
    grid = TemperatureGrid.of(z, np.array([1, 0, 1]))
    assert grid.fit().overall == pytest.approx(4.0)
    with pytest.raises(InputError, match="outside the grid"):
        grid.at(5.0)


def test_a_fit_at_its_bound_gives_the_true_reason():
    label = np.zeros(50, int)
    same = fit_temperature(np.ones((50, 3)), label)
    assert "same loss" in str(same.overall_reason)
    assert "every prediction is right" not in str(same.overall_reason)
    z = np.tile([1e5, 0.0], (50, 1))
    label[7] = 1  # 49 of 50 right: far better than uniform at the temperature that is wanted
    far = fit_temperature(z, label)
    assert far.overall == pytest.approx(20) and "higher still" in str(far.overall_reason)
    assert "uniform" not in str(far.overall_reason)
    close = fit_temperature(z / 1e9, label)
    assert close.overall == pytest.approx(0.05) and "lower still" in str(close.overall_reason)
    groups = np.array(["right", "wrong"])[np.arange(50) % 2]
    by = fit_temperature(z, np.arange(50) % 2, group=groups, min_size=10)
    assert "every prediction is right" in str(by.reason[0])
    assert "worse than uniform" in str(by.reason[1])
    grid = TemperatureGrid.of(np.ones((50, 3)), label)
    assert "same loss" in str(grid.fit().overall_reason)


def test_binary_logits_of_two_classes_are_the_whole_logits():
    rng = np.random.default_rng(5)
    z, y = drawn(rng, 900, 2, 1.6)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    confidence = p.max(axis=1) / p.sum(axis=1)
    correct = (z.argmax(axis=1) == y).astype(int)
    binary = fit_temperature(binary_logits(confidence), correct)
    assert binary.overall == pytest.approx(fit_temperature(z, y).overall, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "label", "message"),
    [
        (np.zeros((4, 1)), [0, 0, 0, 0], "single class"),
        (np.zeros((0, 3)), [], "no rows"),
        (np.full((2, 3), np.nan), [0, 1], "NaN"),
        (np.zeros((2, 3)), [0, 3], "class numbers"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits, label, message):
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, np.array(label, dtype=int))


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(InputError, match="all zero"):
        fit_temperature(np.eye(3), np.arange(3), weight=np.zeros(3))


def test_scikit_learn_finds_the_same_temperature():
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is the oracle")
    rng = np.random.default_rng(6)
    z, y = drawn(rng, 3000, 4, 1.8)
    theirs = calibration._TemperatureScaling().fit(z, y)
    # Its own search stops at a tolerance of 1e-5 of the inverse temperature or so.
    assert fit_temperature(z, y).overall == pytest.approx(1 / theirs.beta_, rel=1e-4)
    mine = fit_temperature(z, y)
    assert mine.nll_after[-1] <= loss(z, y, 1 / theirs.beta_) + 1e-12
