"""Recalibration: fitted here, judged there, with and without in one table."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.calibration import Predictions
from moeaudit.calibration.recalibrate.methods import Split
from moeaudit.calibration.recalibrate.recalibration import recalibrate
from moeaudit.calibration.recalibrate.temperature.grid import TemperatureGrid
from moeaudit.errors import InputError


def split(rng, first, rows=4000, documents=40, classes=5, temperature=None):
    document = first + np.arange(rows) % documents
    domain = np.where(document % 2 == 0, "even", "odd")
    t = {"even": 2.0, "odd": 2.0, **(temperature or {})}
    z = 2.5 * rng.normal(size=(rows, classes))
    own = np.array([t[d] for d in domain])
    u = -np.log(-np.log(rng.uniform(size=z.shape)))
    y = (z / own[:, None] + u).argmax(axis=1)
    return Split.of_logits(z, y, group=domain, document=document, groups={"domain": domain})


def gap(table, method, by="", stratum="all", column="value"):
    row = table.query("score == 'gap' and method == @method and by == @by and stratum == @stratum")
    return float(row[column].iloc[0])


def test_with_and_without_side_by_side():
    rng = np.random.default_rng(0)
    done = recalibrate(split(rng, 0), split(rng, 100), by=("domain",))
    assert list(done.predictions) == [
        ("none", ""),
        *(
            (m, b)
            for m in ("temperature", "temperature_binary", "isotonic")
            for b in ("", "domain")
        ),
        ("vector", ""),
    ]
    table = done.scores(draws=40)
    without = gap(table, "none")
    assert without > 0.12
    for method in ("temperature", "isotonic", "vector"):
        assert abs(gap(table, method)) < 0.04
        assert gap(table, method, column="without") == without
    fits = done.fits.set_index(["method", "by", "group"])
    assert fits.loc[("temperature", "", "all"), "temperature"] == pytest.approx(2.0, rel=0.1)
    counts = done.counts.set_index(["method", "by"])
    assert counts.loc[("temperature", "domain"), "n_changed"] == 0
    assert counts.loc[("vector", ""), "n_changed"] > 0


def test_by_domain_mends_what_a_global_temperature_cannot():
    rng = np.random.default_rng(1)
    apart = {"even": 0.7, "odd": 3.0}
    fit, report = split(rng, 0, temperature=apart), split(rng, 100, temperature=apart)
    table = recalibrate(fit, report, methods=["temperature"], by=["domain"]).scores(draws=40)
    assert gap(table, "temperature", stratum="odd") > 0.08
    assert abs(gap(table, "temperature", "domain", stratum="odd")) < 0.04
    assert abs(gap(table, "temperature", "domain", stratum="even")) < 0.04


def test_a_grid_stands_in_for_the_logits():
    rng = np.random.default_rng(2)
    fit, report = split(rng, 0), split(rng, 100)

    def compact(s):
        assert s.logits is not None and s.label is not None
        return Split(s.predictions, grid=TemperatureGrid.of(s.logits, s.label))

    whole = recalibrate(fit, report, methods=["temperature"])
    grid = recalibrate(compact(fit), compact(report), methods=["temperature"])
    np.testing.assert_allclose(
        grid.predictions["temperature", ""].confidence,
        whole.predictions["temperature", ""].confidence,
        atol=1e-4,
    )
    with pytest.raises(InputError, match="needs logits in both"):
        recalibrate(compact(fit), report, methods=["vector"])


def test_confidences_alone_allow_binary_methods_only():
    rng = np.random.default_rng(3)
    parts = []
    for first in (0, 100):
        c = rng.uniform(0.05, 0.95, 3000)
        p = Predictions.of(c, rng.uniform(size=3000) < c**2, document=first + np.arange(3000) % 30)
        parts.append(Split(p))
    done = recalibrate(*parts)
    assert [m for m, _ in done.predictions] == ["none", "temperature_binary", "isotonic"]
    table = done.scores(draws=40)
    assert abs(gap(table, "isotonic")) < 0.04 < gap(table, "none")
    with pytest.raises(InputError, match="logits or a temperature grid"):
        recalibrate(*parts, methods=["temperature"])


def test_small_and_unseen_groups_are_counted():
    rng = np.random.default_rng(4)
    fit, report = split(rng, 0, rows=900), split(rng, 100, rows=900)
    rare = np.where(np.arange(900) < 30, "rare", "usual")
    new = np.where(np.arange(900) < 45, "new", "usual")
    fit = Split(fit.predictions, fit.logits, fit.label, groups={"expert": rare})
    report = Split(report.predictions, report.logits, report.label, groups={"expert": new})
    done = recalibrate(fit, report, methods=["temperature", "isotonic"], by=["expert"])
    counts = done.counts.set_index(["method", "by"])
    for method in ("temperature", "isotonic"):
        assert counts.loc[(method, "expert"), ["n_fallback", "n_unseen"]].tolist() == [1, 45]
    assert done.fits.query("group == 'rare'")["reason"].str.contains("fewer than 200").all()


def test_overlap_is_refused():
    rng = np.random.default_rng(5)
    a, b = split(rng, 0), split(rng, 39)
    with pytest.raises(InputError, match="in both splits"):
        recalibrate(a, b)
    bare = Split(Predictions.of([0.5] * 50, [1, 0] * 25))
    with pytest.raises(InputError, match="needs its document"):
        recalibrate(bare, bare)
    with pytest.raises(InputError, match="Unknown method"):
        recalibrate(a, split(rng, 500), methods=["platt"])
    with pytest.raises(InputError, match="not in both splits"):
        recalibrate(a, split(rng, 500), by=["layer"])
