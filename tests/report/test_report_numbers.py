"""How numbers are written, and the summaries behind the figures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from moeaudit.report.figures import palette, svg
from moeaudit.report.words import numbers, summary

NAN = float("nan")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.estimate(0.12345, 0.1, 0.15), "+0.123 [+0.100, +0.150]"),
        (numbers.estimate(-12.3, -24.0, -0.6), "−12 [−24, −1]"),
        (numbers.estimate(0.5, NAN, NAN), "+0.5000"),
        (numbers.estimate(NAN, NAN, NAN), "–"),
        (numbers.fixed(-0.00001, 2, True), "0.00"),
        (numbers.significant(3.14159e-7), "3.1e−7"),
        (numbers.significant(0.0), "0"),
        (numbers.significant(-0.01234, 2, True), "−0.012"),
        (numbers.probability(0.0004), "< 0.001"),
        (numbers.probability(0.0456), "0.046"),
        (numbers.percent(0.1234), "12.3%"),
        (numbers.count(1234567), "1,234,567"),
        (numbers.plural(1, "document"), "1 document"),
        (numbers.layers_text([0, 1, 2, 5, 7, 8]), "0–2, 5, 7, 8"),
    ],
)
def test_writing(written, expected):
    assert written == expected


def test_ticks_are_round_and_inside():
    assert svg.ticks(0.0, 1.0, 4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert svg.ticks(-0.17, 0.4, 4) == [0.0, 0.2, 0.4]
    assert svg.tick_texts([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    squash = svg.symlog(0.01)
    assert squash(-0.09) == pytest.approx(-1.0)
    assert squash(0.0) == 0.0


def test_colour_classes_are_symmetric_and_missing_is_not_zero():
    assert palette.diverging(0.5, 1.0) == "d3"
    assert palette.diverging(-0.5, 1.0) == "dm3"
    assert palette.diverging(-0.001, 1.0) == "d0"
    assert palette.diverging(NAN, 1.0) == "none"
    assert palette.sequential(2.0, 1.0) == "q4"


def test_text_is_escaped_in_drawings():
    assert "<b>" not in svg.text(0, 0, "<b>")
    assert "<b>" not in svg.rect(0, 0, 1, 1, "q1", title="<b>")
    assert "<b>" not in str(svg.document(1, 1, '"><b>', []))


def clustered(seed: int = 0, documents: int = 25) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, documents)
    document = np.repeat(np.arange(documents), sizes)
    value = rng.normal(0, 1, documents)[document] + rng.normal(0, 1, len(document))
    return pd.DataFrame({"document": document, "group": 0, "v": value})


def test_clustered_mean_equals_a_cluster_robust_regression_on_a_constant():
    frame = clustered()
    row = summary.clustered_means(frame, ["v"], ["group"]).iloc[0]
    fit = sm.OLS(frame["v"], np.ones(len(frame))).fit(
        cov_type="cluster", cov_kwds={"groups": frame["document"]}, use_t=True
    )
    assert row["v"] == pytest.approx(frame["v"].mean(), rel=1e-12)
    # statsmodels' small-sample factor is G/(G-1) (N-1)/(N-k); with one column it is G/(G-1)
    low, high = fit.conf_int().iloc[0]
    assert (row["v_low"], row["v_high"]) == pytest.approx((low, high), rel=1e-10)
    assert row["documents"] == 25


def test_one_document_has_no_interval():
    frame = clustered(documents=1)
    row = summary.clustered_means(frame, ["v"], ["group"]).iloc[0]
    assert math.isfinite(row["v"])
    assert math.isnan(row["v_low"])
    assert math.isnan(row["v_high"])


def test_groups_do_not_mix():
    frame = pd.concat([clustered(1), clustered(2).assign(group=1, v=lambda f: f["v"] + 100)])
    both = summary.clustered_means(frame, ["v"], ["group"])
    alone = summary.clustered_means(frame[frame["group"] == 1], ["v"], ["group"])
    assert both.loc[1, "v_low"] == pytest.approx(alone.loc[0, "v_low"], rel=1e-12)


def test_cells_cover_experts_that_were_never_active(run):
    cells = summary.cells(run.effects, {layer: 16 for layer in range(6)})
    assert len(cells) == 6 * 16
    never = cells[(cells["layer"] == 2) & (cells["expert"] == 5)].iloc[0]
    assert never["rows"] == 0
    assert math.isnan(never["delta_nll"])
    assert cells.groupby("layer")["share"].sum().to_numpy() == pytest.approx(4.0)


def test_token_effects_find_the_worst_removal(run):
    table = summary.token_effects(run.effects).set_index(["document", "position"])
    own = run.effects[(run.effects["document"] == 3) & (run.effects["position"] == 7)]
    worst = own.loc[own["delta_nll"].idxmax()]
    row = table.loc[(3, 7)]
    assert row["worst"] == worst["delta_nll"]
    assert (row["layer"], row["expert"]) == (worst["layer"], worst["expert"])
    assert row["removals"] == len(own) == 24


def test_spread_says_how_concentrated_effects_are():
    effects = pd.DataFrame({"layer": 0, "delta_nll": [10.0, *[0.1] * 98, -0.2]})
    row = summary.spread(effects).iloc[0]
    assert row["top1"] == pytest.approx(10 / 20)
    assert row["most"] == 10.0
    assert row["least"] == -0.2
