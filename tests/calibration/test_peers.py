"""Agreement with other packages where definitions coincide; each is optional (`calibration-peers`)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from made.predictions import predictions

from moeaudit.calibration import Predictions, ece, kuiper
from moeaudit.calibration.scores.points.classwise import classwise_ece
from moeaudit.calibration.scores.points.kuiper import kuiper_sigma, range_p
from moeaudit.calibration.scores.points.smooth import smooth_ece, smoothed_residual

WHY = "not installed: pip install moeaudit[calibration-peers]"


@pytest.fixture(scope="module")
def p() -> Predictions:
    return predictions(3000, power=1.3)


@pytest.fixture(scope="module")
def classes() -> Predictions:
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.full(5, 0.7), 2000)
    return Predictions.from_probabilities(q, rng.integers(0, 5, 2000))


def peer(name: str):
    with warnings.catch_warnings():  # what they warn of while loading is not ours
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=WHY)


@pytest.mark.parametrize("order", ["l1", "l2", "max"])
def test_torchmetrics_binned_errors(p, order):
    peer("torchmetrics")
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    c, y = torch.tensor(p.confidence), torch.tensor(p.correct).int()
    theirs = binary_calibration_error(c, y, n_bins=15, norm=order).item()
    assert ece(p, 15, order=order) == pytest.approx(theirs, abs=1e-6)


def test_torchmetrics_top_label_error(classes):
    peer("torchmetrics")
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    q, y = torch.tensor(classes.probabilities), torch.tensor(classes.label)
    theirs = multiclass_calibration_error(q, y, num_classes=5, n_bins=10).item()
    assert ece(classes, 10) == pytest.approx(theirs, abs=1e-6)


def test_mapie_binned_errors(p, classes):
    peer("mapie")
    from mapie.metrics.calibration import expected_calibration_error

    # their num_bins counts edges: 11 of them are ten bins
    y = p.correct.astype(int)
    theirs = expected_calibration_error(y, p.confidence, num_bins=11, split_strategy="uniform")
    assert ece(p, 10) == pytest.approx(theirs, abs=1e-6)
    theirs = expected_calibration_error(
        classes.label,
        classes.probabilities,
        num_bins=11,
        split_strategy="uniform",
        classwise=True,
        class_labels=classes.label,
    )
    assert classwise_ece(classes, 10) == pytest.approx(theirs, abs=1e-6)


def test_mapie_kuiper_and_its_law(p):
    peer("mapie")
    from mapie.metrics.calibration import kuiper_cdf, kuiper_statistic

    in_sigmas = kuiper(p) / kuiper_sigma(p)
    # mapie's range leaves out the empty sum, which matters by at most the first step
    assert in_sigmas == pytest.approx(
        kuiper_statistic(p.correct.astype(int), p.confidence), abs=1.1 / np.sqrt(len(p))
    )
    turned = Predictions(
        1 - p.confidence, ~p.correct
    )  # starts on the other side: both ranges agree
    theirs = [kuiper_statistic(x.correct.astype(int), x.confidence) for x in (p, turned)]
    ours = [kuiper(x) / kuiper_sigma(x) for x in (p, turned)]
    assert min(abs(a - b) for a, b in zip(ours, theirs)) < 1e-5
    for x in (0.8, 1.0, 1.3, 2.0, 4.0):
        assert range_p(x) == pytest.approx(1 - kuiper_cdf(x), abs=1e-9)


def test_relplot_smoothed_residuals_and_smooth_ece(p):
    relplot = peer("relplot")
    from relplot.kernels import ReflectedGaussianKernel

    on_grid = Predictions(np.round(p.confidence, 3), p.correct)  # their grid is of 1/1000
    t, c = np.linspace(0, 1, 1001)[1:-1], on_grid.confidence
    ratio, density = ReflectedGaussianKernel(0.05).smooth(c, c - on_grid.correct, t)
    at, ours = smoothed_residual(on_grid, 0.05, points=1 << 14)
    theirs = ratio * density / len(p)
    assert np.interp(t, at, ours) == pytest.approx(theirs, abs=2e-6)
    # the fixed point: they search in 10 steps and sum over 200 points
    assert smooth_ece(on_grid) == pytest.approx(relplot.smECE(c, on_grid.correct * 1.0), abs=5e-4)
