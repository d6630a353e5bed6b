"""Plug-in and debiased scores against plain arithmetic, and weights against copies."""

from __future__ import annotations

import numpy as np
import pytest
from made.predictions import predictions
from scipy.stats import norm as normal

from moeaudit.calibration import (
    Predictions,
    debiased_squared,
    document_squared,
    ece,
    kuiper,
    multicalibration_error,
    signed_gap,
    smooth_ece,
)
from moeaudit.calibration.predictions.cells import mass_bins, width_bins
from moeaudit.calibration.scores.points.classwise import ClasswiseBins, classwise_ece
from moeaudit.calibration.scores.points.kuiper import kuiper_sigma, range_p
from moeaudit.calibration.scores.points.smooth import smoothed_residual
from moeaudit.errors import InputError

SCORES = {
    "gap": signed_gap,
    **{
        f"{b} {o}": lambda p, b=b, o=o: ece(p, 10, b, o)
        for b in ("width", "mass")
        for o in ("l1", "l2", "max")
    },
    "smooth": smooth_ece,
    "kuiper": kuiper,
    "ks": lambda p: kuiper(p, "largest"),
    "document squared": document_squared,
}


def grouped(p: Predictions, weight: np.ndarray | None = None) -> Predictions:
    group = np.array(["a", "b"])[p.documents % 2]
    return Predictions(p.confidence, p.correct, group, p.document, weight)


def test_binned_scores_by_hand():
    # bins of width 1/2: confidences .2, .4 (one right) and .6, .8, 1 (two right)
    p = Predictions.of([0.2, 0.4, 0.6, 0.8, 1.0], [0, 1, 1, 0, 1])
    low, high = abs(0.3 - 0.5), abs(0.8 - 2 / 3)
    assert ece(p, 2) == pytest.approx((2 * low + 3 * high) / 5)
    assert ece(p, 2, order="l2") == pytest.approx(np.sqrt((2 * low**2 + 3 * high**2) / 5))
    assert ece(p, 2, order="max") == pytest.approx(low)


def test_bins_are_closed_on_the_left_and_the_last_on_both_sides():
    assert width_bins(np.array([0, 0.1, 0.3, 0.5, 0.999, 1.0]), 10).tolist() == [0, 1, 3, 5, 9, 9]


def test_bins_of_equal_mass_hold_equal_numbers_and_keep_ties_together():
    c = np.random.default_rng(0).random(150)
    assert np.bincount(mass_bins(c, np.ones(150), 15)).tolist() == [10] * 15
    tied = np.repeat([0.3, 0.7], [10, 90])
    assert set(mass_bins(tied, np.ones(100), 10)) == {0, 5}


def test_kumars_debiasing_by_hand():
    p = Predictions.of([0.2, 0.2, 0.2, 0.9, 0.9], [0, 1, 0, 1, 1])
    low = (1 / 3 - 0.2) ** 2 - (1 / 3) * (2 / 3) / 2
    high = (1 - 0.9) ** 2 - 0
    assert debiased_squared(p, 2, "width") == pytest.approx((3 * low + 2 * high) / 5)


def test_document_debiasing_is_the_sum_over_pairs_of_documents():
    p = predictions(60, documents=7, seed=3)
    r, w = p.confidence - p.correct, np.ones(60)
    place, total = width_bins(p.confidence, 4), 0.0
    for b in range(4):
        rd = np.bincount(p.documents, r * (place == b), 7)
        wd = np.bincount(p.documents, w * (place == b), 7)
        other = ~np.eye(7, dtype=bool)
        pairs = np.outer(wd, wd)[other].sum()
        total += wd.sum() * np.outer(rd, rd)[other].sum() / pairs if pairs else 0
    assert document_squared(p, 4, "width") == pytest.approx(total / 60)


def test_debiased_scores_have_mean_zero_where_calibrated_and_the_plug_in_has_not():
    plain, rows, own = [], [], []
    for seed in range(300):
        p = predictions(600, documents=60, seed=seed, dependence=0.3)
        plain.append(ece(p, 15, "mass", "l2") ** 2)
        rows.append(debiased_squared(p))
        own.append(document_squared(p))
    plain, rows, own = (np.array(x) for x in (plain, rows, own))
    se = own.std() / np.sqrt(300)
    assert abs(own.mean()) < 3 * se
    assert rows.mean() > 3 * se  # rows of a document are not independent, and Kumar's takes them so
    assert plain.mean() > rows.mean()
    alone = np.array([debiased_squared(predictions(600, 600, s, dependence=0)) for s in range(300)])
    assert abs(alone.mean()) < 3 * alone.std() / np.sqrt(300)


def test_cumulative_differences_by_hand():
    # residuals in order of confidence: .2, -.6, .6 (last two tied: they enter together)
    p = Predictions.of([0.2, 0.4, 0.8, 0.8], [0, 1, 1, 0])
    sums = np.array([0, 0.2, -0.4, 0.2]) / 4
    assert kuiper(p) == pytest.approx(np.ptp(sums))
    assert kuiper(p, "largest") == pytest.approx(np.abs(sums).max())
    assert kuiper_sigma(p) == pytest.approx(np.sqrt(0.16 + 0.24 + 0.16 + 0.16) / 4)


def test_the_law_of_the_range_of_brownian_motion():
    for x in (0.99999, 1.00001):  # the two series meet
        assert range_p(x) == pytest.approx(range_p(1.0), abs=1e-5)
    assert range_p(0.0) == 1.0 and range_p(0.3) == pytest.approx(1.0, abs=1e-12)
    assert range_p(9.0) < 1e-15
    # its mean is sqrt(8 / pi) (Feller 1951), the integral of the tail
    x = np.linspace(0, 8, 4001)
    assert np.trapezoid([range_p(v) for v in x], x) == pytest.approx(np.sqrt(8 / np.pi), abs=1e-4)


def test_smooth_ece_is_the_integral_of_the_reflected_kernel():
    p = predictions(400, power=1.3, seed=5)
    sigma, t = 0.07, (np.arange(4000) + 0.5) / 4000
    curve = np.zeros(4000)
    for c, r in zip(p.confidence, (p.confidence - p.correct) / 400):
        for image in (c, -c, 2 - c):
            curve += r * normal.pdf(t, image, sigma)
    assert smooth_ece(p, sigma) == pytest.approx(np.abs(curve).mean(), rel=1e-4)
    at, smoothed = smoothed_residual(p, sigma)
    assert np.interp(t[::500], at, smoothed) == pytest.approx(curve[::500], rel=2e-2, abs=1e-4)
    whole = smooth_ece(p)
    assert smooth_ece(p, whole) == pytest.approx(whole, abs=1e-9)  # its own bandwidth
    assert abs(signed_gap(p)) <= whole + 1e-6


def test_a_constant_gap_is_every_scores_value():
    c = np.full(1000, 0.7)
    p = Predictions.of(c, np.arange(1000) % 2, np.repeat(["a", "b"], 500))
    for name in ("gap", "width l1", "width l2", "width max", "mass l1", "kuiper", "ks", "smooth"):
        assert SCORES[name](p) == pytest.approx(0.2, abs=1e-4), name


@pytest.mark.parametrize("name", list(SCORES))
def test_whole_weights_are_copies(name):
    p = grouped(predictions(500, documents=20, seed=2))
    copies = np.random.default_rng(1).integers(0, 4, 500)
    weighted = grouped(p, copies.astype(float))
    assert SCORES[name](weighted) == pytest.approx(
        SCORES[name](grouped(p.take(np.repeat(np.arange(500), copies)))), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("name", list(SCORES))
def test_real_weights_are_resampling_in_the_limit(name):
    p = grouped(predictions(800, documents=20, seed=4, power=1.4))
    weight = np.random.default_rng(7).exponential(size=800)
    rows = np.random.default_rng(8).choice(800, 400_000, p=weight / weight.sum())
    expected = SCORES[name](grouped(p, weight))
    assert SCORES[name](grouped(p.take(rows))) == pytest.approx(expected, rel=0.05, abs=2e-3)


def test_the_order_of_rows_does_not_matter():
    p = grouped(predictions(500, seed=9, power=1.2))
    tied = Predictions(np.round(p.confidence, 1), p.correct, p.group, p.document)
    shuffled = tied.take(np.random.default_rng(0).permutation(500))
    for name, score in SCORES.items():
        assert score(shuffled) == pytest.approx(score(tied), abs=1e-9), name


def test_multicalibration_sees_gaps_that_cancel():
    c, group = np.full(2000, 0.5), np.repeat(["a", "b"], 1000)
    y = np.r_[np.arange(1000) % 10 < 3, np.arange(1000) % 10 < 7]
    p = Predictions.of(c, y, group)
    assert abs(signed_gap(p)) < 1e-12
    # each group is off by .2, on the scale of its sigma, which is sqrt(2) of the whole's
    assert multicalibration_error(p) == pytest.approx(0.2 / np.sqrt(2))
    with pytest.raises(InputError, match="needs groups"):
        multicalibration_error(Predictions(p.confidence, p.correct))


def test_classwise_by_hand_in_batches_and_by_head():
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.full(40, 0.1), 900)
    label, w = rng.integers(0, 40, 900), rng.exponential(size=900)
    by_class = [ece(Predictions(q[:, c], label == c, weight=w), bins=10) for c in range(q.shape[1])]
    sums = ClasswiseBins(40, 10)
    for rows in np.array_split(np.arange(900), 4):
        sums.add(q[rows], label[rows], w[rows])
    assert sums.table()["ece"].to_numpy() == pytest.approx(np.array(by_class))
    assert sums.score() == pytest.approx(np.mean(by_class))
    p = Predictions.from_probabilities(q, label, weight=w)
    assert classwise_ece(p, 10) == pytest.approx(np.mean(by_class))
    weight = (w @ q + np.bincount(label, w, 40)) / w.sum()
    best = np.argsort(-weight)[:5]
    assert sums.score(5) == pytest.approx(np.mean(np.array(by_class)[best]))
    with pytest.raises(InputError, match="from_probabilities"):
        classwise_ece(predictions(20))


def test_unknown_names_are_refused():
    p = predictions(50)
    with pytest.raises(InputError, match="bins is 0"):
        ece(p, 0)
