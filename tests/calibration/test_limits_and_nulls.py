"""Limits that hold the truth, p-values that are uniform, and short cuts that are no approximation.

The long version is benchmarks/calibration_validity.py; its results are in docs/methods/calibration.md.
"""

from __future__ import annotations

import numpy as np
import pytest
from made.predictions import predictions
from scipy.stats import binomtest, kstest

from moeaudit.calibration import calibration_scores, document_squared
from moeaudit.calibration.predictions.cells import cells_of
from moeaudit.calibration.scores.intervals import mean_limits, norm_limits
from moeaudit.calibration.scores.null import null_residuals
from moeaudit.calibration.scores.points.binned import norms as binned_norms
from moeaudit.calibration.scores.points.kuiper import CumulativeNorm, kuiper_sigma, range_p
from moeaudit.calibration.scores.points.proper import refinement_of
from moeaudit.calibration.scores.points.smooth import SmoothNorm, smooth_ece
from moeaudit.calibration.scores.resample import MOST_UNITS, Resamples, combine, widening
from moeaudit.calibration.scores.stratum import Stratum, share

RUNS, NOMINAL = 60, 0.95
SCORES = ["gap", "ece_width_l1", "ece_mass_l2", "smece", "kuiper"]


def limits_and_p(power: float) -> dict[str, list[tuple[float, float, float]]]:
    """Low, high and the p-value by documents on many clustered data sets."""
    out: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SCORES}
    for seed in range(RUNS):
        p = predictions(600, documents=60, seed=seed, dependence=0.3, power=power)
        resamples = Resamples(60, 120, seed)
        part = Stratum("all", p, resamples.unit_of[p.documents], resamples, 10, NOMINAL, 0)
        mass, residual = part.shares
        gap = residual.sum()
        drawn = part.drawn[1].sum(axis=1, dtype=np.float64)
        flips = part.flipped.sum(axis=1, dtype=np.float64)
        ends = mean_limits(float(gap), drawn, NOMINAL, part.wider)
        out["gap"].append((*ends, share(np.abs(flips) >= abs(gap))))
        norms = {**binned_norms(part.cells), "kuiper": CumulativeNorm()}
        norms["smece"] = SmoothNorm(part.cells.centre, 64)
        for name in SCORES[1:]:
            norm = norms[name]
            z = norm.features(mass, residual)
            noise = (norm.features(*part.drawn) - z) * part.wider
            turned = norm.features(np.broadcast_to(mass, part.flipped.shape), part.flipped)
            low, high = norm_limits(norm, z, noise, NOMINAL)
            ends = low, max(high, part.least_high)
            out[name].append((*ends, share(norm.reaches(turned, float(norm.value(z))))))
    return out


@pytest.fixture(scope="module")
def calibrated() -> dict[str, list[tuple[float, float, float]]]:
    return limits_and_p(1.0)


@pytest.mark.parametrize("score", SCORES)
def test_limits_hold_the_truth_of_calibrated_clustered_predictions(calibrated, score):
    held = sum(low <= 0 <= high for low, high, _ in calibrated[score])
    # refuted only by what 95 % coverage would do once in a thousand
    assert binomtest(held, RUNS, NOMINAL).pvalue > 1e-3, held / RUNS


@pytest.mark.parametrize("score", SCORES)
def test_p_by_documents_is_uniform_under_dependence(calibrated, score):
    assert kstest([p for _, _, p in calibrated[score]], "uniform").pvalue > 1e-3


def test_limits_hold_a_truth_that_is_not_zero():
    grid = np.sort(np.random.default_rng(0).beta(4, 2, 200_000))
    d = grid - grid**1.5
    by_bin = np.array([x.mean() for x in np.array_split(d, 10)])
    # the error has one sign everywhere, so these three scores are its mean
    truth = {name: d.mean() for name in ("gap", "kuiper", "smece")}
    truth["ece_mass_l2"] = np.sqrt((by_bin**2).mean())
    measured = limits_and_p(1.5)
    for name, value in truth.items():
        held = sum(low <= value <= high for low, high, _ in measured[name])
        assert binomtest(held, RUNS, NOMINAL).pvalue > 1e-3, (name, held / RUNS)


def test_kuipers_p_is_uniform_for_independent_outcomes():
    asymptotic, drawn = [], []
    for seed in range(150):
        p = predictions(800, documents=800, seed=seed)
        cells = cells_of(p, 15)
        norm, total = CumulativeNorm(), len(p)
        null = null_residuals(p, cells, 100, np.random.default_rng(seed)) / total
        seen = norm.features(cells.mass, cells.residual / total)
        value = float(norm.value(seen))
        asymptotic.append(range_p(value / kuiper_sigma(p)))
        drawn.append((1 + norm.reaches(norm.features(null, null), value).sum()) / 101)
    assert kstest(drawn, "uniform").pvalue > 1e-3
    # the limit law ignores the steps between points, and is a little conservative
    assert np.mean(np.array(asymptotic) <= 0.05) < 0.1
    assert 0.4 < np.mean(asymptotic) < 0.65


def test_cells_stand_in_for_predictions():
    p = predictions(20_000, documents=200, power=1.2, seed=1)
    cells = cells_of(p, 15)
    assert len(cells) < 1200
    shares = cells.mass / len(p), cells.residual / len(p)
    smooth = SmoothNorm(cells.centre, 256)
    assert float(smooth.value(smooth.features(*shares))) == pytest.approx(smooth_ece(p), rel=2e-3)
    cumulative = CumulativeNorm()
    from moeaudit.calibration import kuiper

    value = float(cumulative.value(cumulative.features(*shares)))
    assert value == pytest.approx(kuiper(p), rel=2e-2)
    # a resampled data set's residuals, from sums and from its rows
    resamples = Resamples(200, 3, 0)
    part = Stratum("all", p, resamples.unit_of[p.documents], resamples, 15, 0.95, 0)
    times = resamples.counts[1].astype(int)[p.documents]
    again = p.take(np.repeat(np.arange(len(p)), times))
    drawn = cumulative.features(*part.drawn)[1]
    assert float(cumulative.value(drawn)) == pytest.approx(kuiper(again), rel=3e-2)
    assert part.drawn[1][1].sum() == pytest.approx(
        (again.confidence - again.correct).mean(), abs=1e-5
    )


def test_smooth_reaches_is_the_same_as_comparing_values():
    norm = SmoothNorm(np.linspace(0, 1, 300), 256)
    rng = np.random.default_rng(0)
    features = norm.features(np.ones((50, 300)), rng.normal(0, 2e-3, (50, 300)))
    values = norm.value(features)
    for score in np.quantile(values, [0.1, 0.5, 0.9]) + 1e-4:
        assert (norm.reaches(features, float(score)) == (values >= score)).all()


def test_outcomes_drawn_by_cell_have_the_law_of_those_drawn_one_by_one(monkeypatch):
    w = np.random.default_rng(3).exponential(size=30_000)
    p = predictions(30_000, documents=100, seed=4, weight=w)
    cells = cells_of(p, 15)
    from moeaudit.calibration.scores import null

    one = null_residuals(p, cells, 300, np.random.default_rng(0)) / w.sum()
    monkeypatch.setattr(null, "_ONE_BY_ONE", 0)
    fast = null_residuals(p, cells, 300, np.random.default_rng(1)) / w.sum()
    for norm in (CumulativeNorm(), CumulativeNorm("largest"), SmoothNorm(cells.centre, 512)):
        a, b = (norm.value(norm.features(x, x)) for x in (one, fast))
        assert kstest(a, b).pvalue > 1e-3
    assert fast.std(axis=0) == pytest.approx(one.std(axis=0), rel=0.3)


def test_pools_of_documents_give_the_same_spread():
    p = predictions(12_000, documents=6000, seed=5, dependence=0.2)
    pooled = Resamples(6000, 400, 0)
    assert pooled.n_units == MOST_UNITS
    sizes = np.bincount(pooled.unit_of)
    assert set(sizes) == {3}
    residual = p.confidence - p.correct
    sums = pooled.sums(pooled.unit_of[p.documents], np.zeros(12_000, int), residual, 1)
    spread = combine(pooled.counts, sums)[:, 0].std() / 12_000
    exact = np.sqrt((np.bincount(p.documents, residual) ** 2).sum()) / 12_000
    assert spread == pytest.approx(exact, rel=0.1)


def test_sums_are_the_same_sparse_and_dense():
    resamples = Resamples(50, 10, 0)
    rng = np.random.default_rng(0)
    unit, value = rng.integers(0, 50, 400), rng.normal(size=400)
    dense = resamples.sums(unit, rng.integers(0, 100, 400), value, 100)
    place = rng.integers(0, 100_000, 400)
    thin = resamples.sums(unit, place, value, 100_000)
    assert isinstance(dense, np.ndarray) and not isinstance(thin, np.ndarray)
    out = combine(resamples.counts, thin)
    by_hand = np.bincount(place, value * resamples.counts[3][unit], 100_000)
    assert out[3] == pytest.approx(by_hand, abs=1e-5)


def test_few_documents_widen_limits():
    assert widening(2000, 0.95) == pytest.approx(1, abs=2e-3)
    assert widening(10, 0.95) == pytest.approx(2.2622 / 1.95996 * np.sqrt(10 / 9), rel=1e-4)
    low, high = mean_limits(1.0, np.linspace(0, 2, 10_001), 0.9, 1.5)
    assert (low, high) == pytest.approx((1 - 0.9 * 1.5, 1 + 0.9 * 1.5), abs=1e-3)


def test_the_refinement_is_fitted_on_other_documents():
    p = predictions(4000, documents=100, seed=6, power=2.0)
    resamples = Resamples(100, 20, 0)
    split = refinement_of(p, resamples.unit_of[p.documents], cells_of(p, 15), resamples)
    point = split.losses(np.ones((1, 100), np.float32))
    brier = ((p.confidence - p.correct) ** 2).mean()
    truth = ((p.confidence - p.confidence**2) ** 2).mean()
    assert brier - point["brier"][0] == pytest.approx(truth, rel=0.25)
    # outcomes without any relation to confidence: nothing to refine but the mean
    noise = predictions(4000, documents=100, seed=7, power=0.0)
    coin = type(p)(
        noise.confidence, np.random.default_rng(0).random(4000) < 0.3, document=p.document
    )
    left = refinement_of(coin, resamples.unit_of[coin.documents], cells_of(coin, 15), resamples)
    assert 0.205 < left.losses(np.ones((1, 100), np.float32))["brier"][0] < 0.22


def test_limits_of_the_debiased_scores_are_one_scale_squared():
    table = calibration_scores(predictions(1000, power=1.5), by=None, draws=50)
    row = table.set_index("score")
    assert row["low"]["ece_squared_documents"] == row["low"]["ece_debiased_documents"] ** 2
    assert row["value"]["ece_squared_documents"] == pytest.approx(
        document_squared(predictions(1000, power=1.5))
    )
