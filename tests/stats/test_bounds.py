"""The smallest effect of interest in d_z, in nats, and as a share of the layer's mean harm."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, by_hand, census

from moeaudit.errors import InputError
from moeaudit.runs.spec import SESOI
from moeaudit.runs.spec import WITHOUT_NATS as RUN_WITHOUT_NATS
from moeaudit.stats import Bound, contrast, get_protocol, pooled
from moeaudit.stats.sizes.bounds import DEFAULT, WITHOUT_NATS


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


@pytest.mark.parametrize("outcome", ["delta_nll", "kl", "abs_delta_nll", "flip"])
def test_the_default_of_a_contrast_is_in_nats_where_the_outcome_is(outcome):
    effects, metrics = census()
    nats = outcome != "flip"
    table = contrast(effects, metrics, outcome=outcome, **QUICK)
    told = contrast(effects, metrics, outcome=outcome, sesoi="0.01nats" if nats else 0.1, **QUICK)
    pd.testing.assert_frame_equal(table, told, check_exact=True)
    assert table.attrs == told.attrs  # what was used is written down, not that it was the default
    if nats:
        assert table.sesoi_nats.to_numpy(float) == pytest.approx(0.01)
    else:
        assert (table.sesoi == 0.1).all()


def test_where_nats_have_no_one_size_the_default_is_in_d_z():
    effects, metrics = census()
    table = pooled(effects, metrics, **QUICK)
    assert (table.sesoi == 0.1).all() and table.attrs["analyses"][0]["protocol"]["sesoi"] == 0.1
    assert get_protocol("engmann2026").sesoi == 0.1
    own = contrast(effects, metrics, protocol=get_protocol("moeaudit").with_(sesoi=0.2), **QUICK)
    assert (own.sesoi == 0.2).all()


def test_a_protocol_without_a_bound_says_so_until_it_is_settled():
    plain = get_protocol("moeaudit")
    with pytest.raises(InputError, match="no smallest effect of interest"):
        _ = plain.bound
    assert str(plain.settled(("delta_nll", "kl")).bound) == SESOI == DEFAULT
    assert str(plain.settled(("delta_nll", "flip")).bound) == RUN_WITHOUT_NATS == str(WITHOUT_NATS)
    assert plain.with_(sesoi=0.3).settled(("kl",)).sesoi == 0.3
