"""Corrections against their definitions, and families that refuse to be nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from moeaudit.errors import InputError
from moeaudit.stats import Family, adjust
from moeaudit.stats.families.families import METHODS


def by_definition(p, method):
    """Each procedure written out from its paper."""
    m, order = len(p), np.argsort(p)
    s = p[order]
    i = np.arange(1, m + 1)
    if method == "bonferroni":
        out = m * s
    elif method == "holm":
        out = np.maximum.accumulate((m - i + 1) * s)
    elif method == "hochberg":
        out = np.minimum.accumulate(((m - i + 1) * s)[::-1])[::-1]
    else:
        c = (1 / i).sum() if method == "by" else 1.0
        out = np.minimum.accumulate((c * m / i * s)[::-1])[::-1]
    back = np.empty(m)
    back[order] = np.minimum(out, 1)
    return back


@pytest.mark.parametrize("method", ["bonferroni", "holm", "hochberg", "bh", "by"])
def test_corrections_follow_their_definitions(method):
    p = np.random.default_rng(0).random(25) ** 3
    np.testing.assert_allclose(adjust(p, method), by_definition(p, method), atol=1e-12)
    theirs = multipletests(p, method=METHODS[method])[1]
    np.testing.assert_allclose(adjust(p, method), theirs, atol=1e-12)


def test_what_cannot_be_estimated_still_counts_in_the_family():
    p = np.array([0.01, np.nan, 0.2])
    got = adjust(p, "holm")
    assert got[0] == pytest.approx(0.03) and np.isnan(got[1]) and got[2] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        ((), {}, "no cells"),
        ((("m", 1),), {}, "one cell"),
        ((("m", 1), ("m", 1)), {}, "more than once"),
        ((("m", 1), ("m", 2)), {"alpha": 0.0}, "alpha"),
    ],
)
def test_families_that_are_none_are_refused(cells, options, message):
    with pytest.raises(InputError, match=message):
        Family("f", cells, **options)


def test_a_single_test_must_be_declared_as_such():
    assert len(Family("f", (("m", 1),), single=True)) == 1
    with pytest.raises(InputError, match="Unknown correction"):
        adjust(np.array([0.1]), "sidak")
