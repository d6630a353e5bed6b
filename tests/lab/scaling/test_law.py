"""The law: golden values, planted coefficients recovered, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moeaudit.errors import InputError
from moeaudit.lab.scaling import COEFFICIENTS, PUBLISHED, Law, effective_experts, fit_law


def grid(law: Law, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    sizes, tokens, experts = [0.1, 0.3, 0.9], [20, 100, 500], [1, 2, 4, 8, 32]
    rows = [(n, d, e) for n in sizes for d in tokens for e in experts]
    frame = pd.DataFrame(rows, columns=["active", "tokens", "experts"])
    error = np.random.default_rng(seed).normal(0, noise, len(frame)) if noise else 0.0
    return frame.assign(loss=law(*frame.to_numpy(float).T) + error)


def test_golden_effective_experts():
    assert effective_experts(1) == pytest.approx(1.0)
    assert effective_experts(8) == pytest.approx(6.42, abs=0.005)
    assert effective_experts(32) == pytest.approx(16.01, abs=0.005)
    many = effective_experts(np.array([1.0, 8.0, 1e9]))
    assert many[-1] == pytest.approx(32) and (np.diff(many) > 0).all()


def test_golden_losses_of_the_published_coefficients():
    small = [PUBLISHED(0.3, 100, e) for e in (1, 2, 4, 8, 16, 32)]
    large = [PUBLISHED(0.9, 500, e) for e in (1, 2, 4, 8, 16, 32)]
    assert small == pytest.approx([2.446, 2.409, 2.389, 2.379, 2.376, 2.376], abs=6e-4)
    assert large == pytest.approx([2.301, 2.270, 2.265, 2.270, 2.279, 2.288], abs=6e-4)


def test_planted_coefficients_are_recovered():
    fit = fit_law(grid(PUBLISHED), n_boot=0)
    assert fit.rmse < 1e-5
    assert fit.law.vector == pytest.approx(PUBLISHED.vector, rel=0.02)
    planted = Law(0.4, 0.2, -0.2, 0.02, 0.9, 0.8, -0.4, -0.2, 1.5)
    other = fit_law(grid(planted), n_boot=0)
    assert other.law.vector == pytest.approx(planted.vector, rel=0.05)


def test_with_noise_losses_are_predicted_and_intervals_cover():
    fit = fit_law(grid(PUBLISHED, noise=0.003), n_boot=30, starts=2)
    assert 0.0015 < fit.rmse < 0.0045
    loss, low, high = fit.predict(0.5, 200, 8)
    assert low <= loss <= high and loss == pytest.approx(PUBLISHED(0.5, 200, 8), abs=0.01)
    table = fit.coefficients.set_index("coefficient")
    assert list(table.index) == list(COEFFICIENTS)
    inside = (table["low"] <= PUBLISHED.vector) & (PUBLISHED.vector <= table["high"])
    assert inside.sum() >= 6
    assert "RMSE" in repr(fit) and "<table" in fit._repr_html_()
    assert Law.from_dict(fit.law.to_dict()) == fit.law


def test_few_points_give_no_limits_and_say_why():
    """Of nine points the one resample that can be fitted is themselves: limits of no width, which claim no error."""
    points = grid(PUBLISHED, noise=0.003).sample(frac=1, random_state=2)
    for count in (9, 26):
        fit = fit_law(points.head(count), n_boot=3, starts=1)
        assert fit.coefficients[["low", "high"]].isna().all(axis=None) and len(fit.draws) == 0
        assert f"{count} distinct points are fewer than three a coefficient (27)" in repr(fit)
        loss, *limits = fit.predict(0.5, 200, 8)
        assert np.isfinite(loss) and np.isnan(limits).all()
    twice = fit_law(pd.concat([points.head(14)] * 2), n_boot=3, starts=1)
    assert "14 distinct points" in str(twice.no_limits)
    enough = fit_law(points.head(27), n_boot=3, starts=1)
    assert enough.no_limits is None and len(enough.draws) == 3
    assert (enough.coefficients["low"] < enough.coefficients["high"]).all()
    assert "n_boot = 0" in repr(fit_law(points, n_boot=0, starts=1))


def test_too_few_points_and_bad_ones_are_refused():
    points = grid(PUBLISHED)
    with pytest.raises(InputError, match="8 distinct points cannot fix the 9 coefficients"):
        fit_law(points.head(8))
    with pytest.raises(InputError, match="distinct points"):
        fit_law(pd.concat([points.head(3)] * 5))
    with pytest.raises(InputError, match="same experts"):
        fit_law(
            pd.concat([points[points["experts"] == 2].assign(active=a) for a in (0.1, 0.2, 0.3)])
        )
    with pytest.raises(InputError, match="lack the columns loss"):
        fit_law(points.drop(columns="loss"))
    with pytest.raises(InputError, match="cannot be"):
        fit_law(points.assign(loss=-1.0))
    with pytest.raises(InputError, match="at least 1"):
        effective_experts(0.5)
    with pytest.raises(InputError, match="e_start"):
        effective_experts(2, e_start=40)
    with pytest.raises(InputError, match="above 0"):
        PUBLISHED(0.0, 1.0, 1.0)
