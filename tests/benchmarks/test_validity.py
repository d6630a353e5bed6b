"""The validity benchmark itself: its law is what it says, and its reduction is the package's."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from made.census import census
from scipy import stats

from moeaudit.stats.sizes.moments import d_z, moments, weighted


@pytest.fixture
def validity():
    return importlib.import_module("benchmarks.validity.measures")


@pytest.fixture
def draws(validity):
    return importlib.import_module("benchmarks.validity.draws")


def test_the_law_has_the_mean_spread_and_tails_it_claims(draws):
    rng = np.random.default_rng(0)
    for skew in (0.0, 0.1):
        x = draws.Law(sigma=0.6, skew=skew).draw(rng, 400, 60, 0.1)
        assert x.mean() == pytest.approx(0.1, abs=0.02)
        assert x.std() == pytest.approx(1, abs=0.05)
    magnitude = np.exp(1.15 * stats.norm.ppf([0.9, 0.99, 0.999]))
    assert magnitude == pytest.approx([4.4, 14.5, 35], rel=0.02)


def test_reduced_cells_are_the_packages_own(validity, draws):
    x = draws.Law().draw(np.random.default_rng(1), 12, 7, 0.2)
    document = np.repeat(np.arange(12), 7)
    reduced = draws.reduce(x)
    for cell, m in enumerate(draws.cells_of(reduced)):
        high = x[:, :, cell].reshape(-1).astype(np.float64)
        own = moments(document, high, np.zeros(84), 12)
        assert d_z(weighted(m))[0] == pytest.approx(d_z(weighted(own))[0], abs=1e-10)
        if cell == 0:
            assert validity.p_token(reduced)[0] == pytest.approx(stats.ttest_1samp(high, 0).pvalue)


def test_a_census_is_redrawn_at_the_effect_asked_for(draws, tmp_path):
    effects, metrics = census(documents=20, slope=0.5)
    (tmp_path / "effects").mkdir()
    for i, half in enumerate((effects[:600], effects[600:])):
        half.to_parquet(tmp_path / "effects" / f"{i:05}.parquet")
    metrics.to_parquet(tmp_path / "experts.parquet")
    sums, tails = draws.real_census(tmp_path, "delta_nll")
    assert sums.shape == (4, 20, 7) and tails["q90/q50"] > 1
    everything = draws.redrawn(sums, 20, 0.3)(np.random.default_rng(0))
    assert everything.shape == (4, 20, 7)
    moved = draws.redrawn(sums, 20000, 0.3)(np.random.default_rng(0))
    got = [d_z(weighted(m))[0] for m in draws.cells_of(moved)]
    assert got == pytest.approx([0.3] * 4, abs=0.05)


def test_the_whole_benchmark_runs(validity, tmp_path, monkeypatch, capsys):
    page = importlib.import_module("benchmarks.validity.page")
    monkeypatch.setattr(page, "DESIGNS", ((16, 4),))
    monkeypatch.setattr(page, "UNEVEN", ((16, 4),))
    monkeypatch.setattr(page, "BOOTSTRAPS", 50)
    monkeypatch.setattr(page, "FLIPS", 49)
    main = importlib.import_module("benchmarks.validity.__main__").main
    assert main(["--out", str(tmp_path / "v.md"), "--runs", "20"]) == 0
    text = (tmp_path / "v.md").read_text()
    assert "16 x 4, skewed" in text and "nan" not in text
    assert "max-T" in (tmp_path / "v.svg").read_text()


def test_what_is_written_by_hand_is_kept_and_a_page_without_marks_refused():
    page = importlib.import_module("benchmarks.validity.page")
    first = page.placed("# Made\n", None)
    old = "By hand, above.\n" + first + "\n## By hand, below\n"
    new = page.placed("# Made anew\n", old)
    assert new == old.replace("# Made", "# Made anew") and new.startswith("By hand, above.")
    assert page.placed("# Made anew\n", new) == new
    with pytest.raises(ValueError, match="no marks"):
        page.placed("# Made", "# A page by hand\n")


def test_documents_of_uneven_length_count_their_own_tokens_alone(draws):
    x = draws.Law().draw(np.random.default_rng(1), 5, 9, 0.0)
    lengths = np.array([2, 9, 4, 1, 7])
    sums = draws.reduce(x, lengths)
    want = [[x[d, : lengths[d], c].sum() for d in range(5)] for c in range(draws.CELLS)]
    np.testing.assert_allclose(sums[:, :, 1], want, rtol=1e-5)
    assert (sums[:, :, 0] == lengths).all()
    drawn = draws.uneven(draws.Law(), 40, 30)(np.random.default_rng(0))
    assert drawn[0, :, 0].max() > 3 * drawn[0, :, 0].min()


def test_the_page_names_what_missed_its_aim(validity):
    page = importlib.import_module("benchmarks.validity.page")
    false = [("25 x 8, skewed", {"max-T": 0.08}), ("50 x 64, skewed", {"max-T": 0.05})]
    cover = [("25 x 8, skewed, d = 0", {"adjusted": 0.95})]
    claim = [
        ("25 x 8, skewed, d = 0.1", {"equivalent": 0.01, "found, flips": 0.5, "predicted": 0.4})
    ]
    text = page.outside(false, cover, claim)
    assert "1 of 2 met; not 25 x 8, skewed (0.080)" in text and "coverage: all 1 met" in text
    assert "25 x 8, skewed, d = 0.1 (+0.100)" in text
