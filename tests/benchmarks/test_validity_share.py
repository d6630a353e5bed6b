"""The benchmark of shares: what it draws is the package's sample, and what it says of a share of one is the census."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from moeaudit.stats.sizes.moments import Moments, d_z, moments, weighted


@pytest.fixture(scope="module")
def share():
    return importlib.import_module("benchmarks.validity.share")


@pytest.fixture(scope="module")
def books(share):
    of = share.synthetic(seed=1)
    every = [np.ones((1, len(s.document)), dtype=bool) for s in of.layers]
    return of, share.Book.of(of, every), share.Book.of(of, of.draw(0.2, 4))


def test_the_census_book_is_the_population(share, books):
    of, census, _ = books
    slots, cell = of.layers[0], of.cells[0][0]
    assert census.count[0].sum() == slots.expert.size
    assert census.total[0].sum() == pytest.approx(slots.value.sum(), rel=1e-4)
    whole, centre = census.pairs[0]
    by_package = d_z(weighted(moments(cell.document, cell.high, cell.low, slots.n_documents)))
    assert d_z(weighted(Moments(whole[0], centre))) == pytest.approx(by_package)


def test_samples_have_their_share_and_estimate_the_census(share, books):
    _, census, book = books
    made = book.count[0].sum(axis=(1, 2)) / census.count[0].sum()
    assert made == pytest.approx(0.2, abs=0.005)
    found = share.experts(book, census, 120, 6, np.random.default_rng(0))
    assert abs(found["plain_error"].mean()) < 0.01 and found["plain_holds"].mean() > 0.85
    held = share.contrasts(book, census, 120, 10, np.random.default_rng(0))
    assert set(held) == set(share.SIZES) and min(held.values()) > 0.5


def test_the_metric_that_follows_harm_does_and_noise_does_not(share, books):
    _, census, _ = books
    follows, noise = (float(d_z(weighted(Moments(w[0], centre)))[0]) for w, centre in census.pairs)
    assert follows > 0.1 > abs(noise)
