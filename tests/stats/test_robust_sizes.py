"""Sizes that a few tokens do not decide: winsorised d_z, and how much those tokens carry."""

from __future__ import annotations

import numpy as np
import pytest
from made import synthetic
from scipy.stats.mstats import winsorize

from moeaudit.stats import contrast, effect_size
from moeaudit.stats.contrast.row import top_share
from moeaudit.stats.sizes.bootstrap import leave_one_out
from moeaudit.stats.sizes.winsorised import Winsorised


def sized(x, document=None, **how):
    return effect_size("winsorised_d_z", x, np.zeros(len(x)), document, **how)


@pytest.mark.parametrize("n", [19, 20, 41, 400])
def test_equals_scipys_winsorised_values(n):
    x = np.random.default_rng(n).standard_t(2, n) + 0.2
    x[: n // 4] = np.round(x[: n // 4])  # ties
    y = np.asarray(winsorize(x, limits=0.05))
    assert sized(x).estimate == pytest.approx(y.mean() / y.std(ddof=1), abs=1e-12)


def test_left_out_documents_are_what_weights_of_zero_give():
    rng = np.random.default_rng(1)
    document = rng.integers(0, 13, 500)
    document[document == 4] = 5  # one document holds nothing
    x = np.round(rng.standard_t(2, 500), 1) + 1e3
    w = Winsorised(document, x, 13)
    present = np.bincount(document, minlength=13) > 0
    want = [sized(x[document != d]).estimate for d in np.flatnonzero(present)]
    assert w.left_out == pytest.approx(want, rel=1e-9)
    assert w.values(leave_one_out(present)) == pytest.approx(want, rel=1e-9)


def test_document_weights_repeat_documents():
    rng = np.random.default_rng(2)
    document, x = rng.integers(0, 5, 200), rng.standard_t(3, 200) + 0.1
    times = np.array([2, 0, 1, 3, 1])
    again = np.repeat(x, times[document])
    got = Winsorised(document, x, 5).values(times[None].astype(float))[0]
    assert got == pytest.approx(sized(again).estimate, abs=1e-12)


@pytest.mark.parametrize("interval", ["adjusted", "percentile"])
def test_limits_hold_the_true_size(interval):
    """Documents of t(3) tokens with effects of their own; the truth from a million tokens."""
    rng = np.random.default_rng(3)

    def draw(documents, tokens):
        shift = 0.15 + 0.2 * rng.normal(size=documents)
        return (rng.standard_t(3, (documents, tokens)) + shift[:, None]).ravel()

    truth, held, n = sized(draw(5_000, 40)).estimate, 0, 80
    document = np.repeat(np.arange(30), 40)
    for seed in range(n):
        got = sized(draw(30, 40), document, interval=interval, n_boot=200, seed=seed)
        held += got.low <= truth <= got.high
    assert held / n >= 0.88


def test_one_token_moves_d_z_and_not_the_winsorised():
    x = np.random.default_rng(4).normal(0.3, 1, 2000)
    document = np.repeat(np.arange(20), 100)
    spoilt = x.copy()
    spoilt[0] = -1e4
    plain = [effect_size("d_z", v, np.zeros(2000), document).estimate for v in (x, spoilt)]
    robust = [sized(v, document).estimate for v in (x, spoilt)]
    assert plain[0] > 0.25 > 0 > plain[1]
    assert robust[1] == pytest.approx(robust[0], abs=0.01)


def test_the_share_of_the_largest_tokens():
    rng = np.random.default_rng(5)
    assert top_share(rng.normal(size=200_000)) == pytest.approx(0.0845, abs=0.003)
    spike = np.zeros(1000)
    spike[3] = 50.0
    assert top_share(spike) > 0.99
    assert np.isnan(top_share(np.ones(10)))
    assert np.isnan(top_share(np.empty(0)))


def test_a_contrast_gives_them_with_limits():
    tables = synthetic.tables(documents=10, tokens=30, layers=3)
    found = contrast(
        tables["effects"],
        tables["experts"],
        sizes=("winsorised_d_z", "rank_biserial"),
        n_shuffles=19,
        n_flips=99,
    )
    for name in ("winsorised_d_z", "rank_biserial"):
        assert (found[f"{name}_low"] <= found[name]).all()
        assert (found[name] <= found[f"{name}_high"]).all()
    assert found["top_share"].between(0.05, 1).all()
