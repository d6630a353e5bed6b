"""The validity benchmark itself: its law is what it says, and its reduction is the package's."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_contrast import census

from moeaudit.stats.moments import d_z, moments, weighted

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def validity(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("validity")


def test_the_law_has_the_mean_spread_and_tails_it_claims(validity):
    rng = np.random.default_rng(0)
    for skew in (0.0, 0.1):
        x = validity.Law(sigma=0.6, skew=skew).draw(rng, 400, 60, 0.1)
        assert x.mean() == pytest.approx(0.1, abs=0.02)
        assert x.std() == pytest.approx(1, abs=0.05)
    magnitude = np.exp(1.15 * stats.norm.ppf([0.9, 0.99, 0.999]))
    assert magnitude == pytest.approx([4.4, 14.5, 35], rel=0.02)


def test_reduced_cells_are_the_packages_own(validity):
    x = validity.Law().draw(np.random.default_rng(1), 12, 7, 0.2)
    document = np.repeat(np.arange(12), 7)
    reduced = validity.reduce(x)
    for cell, m in enumerate(validity.cells_of(reduced)):
        high = x[:, :, cell].reshape(-1).astype(np.float64)
        own = moments(document, high, np.zeros(84), 12)
        assert d_z(weighted(m))[0] == pytest.approx(d_z(weighted(own))[0], abs=1e-10)
        if cell == 0:
            assert validity.p_token(reduced)[0] == pytest.approx(stats.ttest_1samp(high, 0).pvalue)


def test_a_census_is_redrawn_at_the_effect_asked_for(validity, tmp_path):
    effects, metrics = census(documents=20, slope=0.5)
    (tmp_path / "effects").mkdir()
    for i, half in enumerate((effects[:600], effects[600:])):
        half.to_parquet(tmp_path / "effects" / f"{i:05}.parquet")
    metrics.to_parquet(tmp_path / "experts.parquet")
    sums, tails = validity.real_census(tmp_path, "delta_nll")
    assert sums.shape == (4, 20, 7) and tails["q90/q50"] > 1
    everything = validity.redrawn(sums, 20, 0.3)(np.random.default_rng(0))
    assert everything.shape == (4, 20, 7)
    moved = validity.redrawn(sums, 20000, 0.3)(np.random.default_rng(0))
    got = [d_z(weighted(m))[0] for m in validity.cells_of(moved)]
    assert got == pytest.approx([0.3] * 4, abs=0.05)


def test_the_whole_benchmark_runs(validity, tmp_path, monkeypatch, capsys):
    page = importlib.import_module("validity_page")
    monkeypatch.setattr(page, "DESIGNS", ((12, 4),))
    monkeypatch.setattr(page, "FLIPS", 49)
    assert validity.main(["--out", str(tmp_path / "v.md"), "--runs", "20"]) == 0
    text = (tmp_path / "v.md").read_text()
    assert "12 x 4, skewed" in text and "nan" not in text
