"""Which claims may speak of domains like these: each of the four things that must hold, taken away once."""

from __future__ import annotations

import pandas as pd
import pytest

from moeaudit.stats.domains.support import supported
from moeaudit.stats.sizes.equivalence import LIKE_THESE

WITHIN, ACROSS = "within-token contrast", "per-expert expected harm"
TEST = {
    "question": WITHIN,
    "outcome": "kl",
    "metric": "reap",
    "role": "metric",
    "layer": 3,
    "d_z": 0.2,
    "rho": None,
    "verdict": "predictive",
    "supports": "experts of this layer",
}
NEW = {
    "question": WITHIN,
    "outcome": "kl",
    "metric": "reap",
    "layer": 3,
    "new_low": 0.05,
    "new_high": 0.3,
    "p_mean_holm": 0.01,
}


def raised(test=None, new=None, there=None):
    tables = [
        pd.DataFrame([{**base, **(change or {})}])
        for base, change in ((TEST, test), (NEW, new), (TEST, there))
    ]
    tables[0].attrs["analyses"] = ["kept"]
    found = supported(*tables)
    assert found.attrs == {"analyses": ["kept"]}
    assert found.drop(columns="supports").equals(tables[0].drop(columns="supports"))
    return found["supports"].iloc[0]


@pytest.mark.parametrize("verdict", ["predictive", "present, size open", "present but below"])
def test_a_claim_for_which_all_holds_is_raised(verdict):
    assert raised({"verdict": verdict}, there={"verdict": "present, size open"}) == LIKE_THESE


def test_a_reversed_claim_needs_the_interval_on_its_own_side():
    turned = {"verdict": "reversed", "d_z": -0.2}
    low = {"new_low": -0.3, "new_high": -0.05}
    assert raised(turned, low, turned) == LIKE_THESE
    assert raised(turned, None, turned) == "experts of this layer"


@pytest.mark.parametrize(
    "missing",
    [
        {"new": {"new_low": -0.01}},
        {"new": {"new_low": None, "new_high": None}},
        {"new": {"p_mean_holm": 0.06}},
        {"new": {"p_mean_holm": None}},
        {"there": {"verdict": "inconclusive"}},
        {"there": {"verdict": "equivalent to none"}},
        {"there": {"d_z": -0.2, "verdict": "reversed"}},
        {"there": {"supports": "these experts"}},
        {"there": {"layer": 4}},
        {"new": {"layer": 4}},
    ],
)
def test_without_any_of_them_a_claim_stays_what_it_was(missing):
    assert raised(**missing) == "experts of this layer"


def test_what_is_no_claim_about_a_layer_is_never_raised():
    assert raised({"supports": "these experts"}) == "these experts"
    assert raised({"verdict": "inconclusive", "supports": "these experts"}) == "these experts"
    assert raised({"role": "control"}) == "experts of this layer"


def test_rankings_are_raised_alike_and_a_claim_about_nobody_never():
    ranks = {"question": ACROSS, "d_z": None, "rho": 0.7}
    assert raised(ranks, {"question": ACROSS}, ranks) == LIKE_THESE
    turned = {**ranks, "rho": -0.7}
    assert raised(ranks, {"question": ACROSS}, turned) == "experts of this layer"
    nobody = {**ranks, "supports": None}
    assert raised(nobody, {"question": ACROSS}, ranks) is None
    assert raised(ranks, {"question": ACROSS}, nobody) == "experts of this layer"


def test_untested_tables_come_back_as_they_are():
    none = pd.DataFrame([{"question": WITHIN, "outcome": "kl", "verdict": "not tested"}])
    assert supported(none, pd.DataFrame([NEW]), none).equals(none)
