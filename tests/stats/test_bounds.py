"""The smallest effect of interest in d_z, in nats, and as a share of the layer's mean harm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made.census import QUICK, by_hand, census

from moeaudit.errors import InputError
from moeaudit.stats import Bound, contrast, get_protocol, pooled


@pytest.mark.parametrize(
    ("text", "value", "unit", "written"),
    [
        (0.1, 0.1, "d_z", "0.1"),
        ("0.1", 0.1, "d_z", "0.1"),
        ("0.05 d_z", 0.05, "d_z", "0.05"),
        ("0.01nats", 0.01, "nats", "0.01nats"),
        (" 1e-2 NAT ", 0.01, "nats", "0.01nats"),
        ("50%harm", 0.5, "harm", "50%harm"),
        ("7% harm", 0.07, "harm", "7%harm"),
        ("12.5 %harm", 0.125, "harm", "12.5%harm"),
        (1, 1.0, "d_z", "1"),
    ],
)
def test_it_is_read_and_written_in_one_way(text, value, unit, written):
    bound = Bound.parse(text)
    assert bound.value == pytest.approx(value) and bound.unit == unit and str(bound) == written
    assert Bound.parse(written) == Bound.parse(str(bound))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        ("small", "cannot be read"),
        ("0,01nats", "cannot be read"),
        ("0.01 bits", "cannot be read"),
        ("50%", "a % must say of what"),
        ("0.5harm", "a share needs a % sign"),
        ("5%nats", "a % must say of what"),
        ("0nats", "must be a positive number"),
        ("-0.01nats", "must be a positive number"),
        ("nan", "cannot be read"),
        (math.inf, "must be a positive number"),
        (True, "Give a size in d_z"),
    ],
)
def test_what_is_no_bound_is_refused(text, why):
    with pytest.raises(InputError, match=why):
        get_protocol("moeaudit").with_(sesoi=text)


def test_nats_become_d_z_by_each_cells_own_deviation():
    effects, metrics = census(slope=0.05)
    table = contrast(effects, metrics, sesoi="0.2nats", **QUICK)
    for layer in (1, 2):
        _, difference = by_hand(effects, layer)
        row = table[(table.metric == "id") & (table.layer == layer)].iloc[0]
        assert row.sesoi == pytest.approx(0.2 / difference.std(ddof=1))
        assert row.sesoi_nats == pytest.approx(0.2)
    # The same answer as that bound in d_z gives.
    again = contrast(effects, metrics, sesoi=float(row.sesoi), **QUICK)
    same = again[(again.metric == "id") & (again.layer == 2)].iloc[0]
    for name in ("p_tost", "power_at_sesoi", "n_documents_to_decide"):
        assert same[name] == pytest.approx(row[name])
    assert same.sesoi_nats == pytest.approx(0.2)


def test_a_share_is_of_the_mean_of_the_layers_rows():
    effects, metrics = census()
    effects["delta_nll"] += np.where(effects["layer"] == 1, 0.5, -0.25)
    table = contrast(effects, metrics, sesoi="50%harm", **QUICK)
    mean = effects.groupby("layer").delta_nll.mean()
    for layer, rows in table.groupby("layer"):
        assert rows.sesoi_nats.to_numpy(float) == pytest.approx(abs(mean[layer]) / 2)


def test_a_share_of_nothing_is_no_bound_and_shows_nothing_absent():
    effects, metrics = census()
    table = contrast(
        effects.assign(delta_nll=0.0 * effects.delta_nll), metrics, sesoi="5%harm", **QUICK
    )
    assert table.sesoi.isna().all() and table.p_tost.isna().all()


@pytest.mark.parametrize("sesoi", ["0.01nats", "50%harm"])
def test_an_outcome_without_that_unit_is_refused(sesoi):
    with pytest.raises(InputError, match="flip is not"):
        contrast(*census(), outcome="flip", sesoi=sesoi, **QUICK)
    with pytest.raises(InputError, match="averages over layers"):
        pooled(*census(), sesoi=sesoi, **QUICK)
