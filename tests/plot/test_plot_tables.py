"""`ma.plot` of contrasts, curves, predictions and traces."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census
from made.predictions import predictions
from made.pruning_curve import curve_of
from made.routing_tables import by_hand, random_trace

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.report.plot.sheet import MOST_BYTES
from moeaudit.runs.analysis import NOT_TESTED


def note(figure) -> str:
    return figure.layout.meta["note"]


@pytest.fixture(scope="module")
def tables():
    effects, metrics = census(documents=14, tokens=16, layers=(1, 4), experts=6, slope=0.1)
    made = [ma.contrast(effects, metrics, outcome=o, **QUICK) for o in ("delta_nll", "kl")]
    return ma.stats.together(made), ma.expert_harm(effects, metrics, **QUICK)


def test_contrasts_show_d_z_with_limits_and_verdicts(tables):
    table, harm = tables
    figure = ma.plot.contrasts(table)
    assert [a.text for a in figure.layout.annotations[:2]] == ["Harm", "Disturbance"]
    points = figure.data[0]
    rows = table[(table["metric"] == "id") & (table["outcome"] == "delta_nll")]
    assert points.y == pytest.approx(rows["d_z"].to_numpy(float), abs=1e-5)
    low = points.y - points.error_y.arrayminus
    assert low == pytest.approx(rows["d_z_low"].to_numpy(float), abs=2e-5)
    assert all(v in t for v, t in zip(rows["verdict"], points.hovertext))
    key = next(a.text for a in figure.layout.annotations if a.name == "key")
    shown = set(table.loc[table["role"] == "metric", "verdict"])
    assert all(f"</span> {verdict}" in key for verdict in shown) and "control" in key
    assert {s.name for s in figure.layout.shapes if s.name} == {
        "zone of no interest",
        "95% of luck over experts",
    }
    assert figure.layout.xaxis2.ticktext[:2] == ("id", "odd")
    assert f"{len(table)} contrasts" in note(figure)
    both = ma.plot.contrasts(ma.stats.together([table, harm]))
    assert both.data[0].y == pytest.approx(points.y)
    assert f"{len(harm)} rows of other questions left out" in note(both)


def test_one_wild_interval_does_not_flatten_the_others(tables):
    table = tables[0].copy()
    table.loc[0, ["d_z_low", "d_z_high"]] = [-60.0, 60.0]
    figure = ma.plot.contrasts(table)
    assert figure.layout.yaxis.range[1] < 5
    assert "1 point or bar beyond the axis" in note(figure)


def test_a_contrast_that_is_not_estimable_says_why(tables):
    table = tables[0].copy()
    cut = ["d_z", "d_z_low", "d_z_high", "p", "p_maxt"]
    table.loc[0, cut] = pd.NA
    table.loc[0, ["verdict", "reason"]] = ["not estimable", "all <equal>"]
    figure = ma.plot.contrasts(table)
    assert figure.data[0].hovertext[0].endswith("all &lt;equal&gt;")
    assert figure.data[0].marker.symbol[0] == "x-thin-open"
    assert "1 contrast not estimable" in note(figure)


def test_tables_without_contrasts_are_refused(tables):
    table, harm = tables
    with pytest.raises(InputError, match="lacks the column d_z_low"):
        ma.plot.contrasts(table.drop(columns="d_z_low"))
    with pytest.raises(InputError, match="has no rows"):
        ma.plot.contrasts(table.iloc[:0])
    with pytest.raises(InputError, match="no within-token contrast, only per-expert"):
        ma.plot.contrasts(harm.reindex(columns=[*harm.columns, "d_z", "d_z_low", "d_z_high"]))
    with pytest.raises(InputError, match=r"Nothing was tested in this table \(rows are sets\)"):
        ma.plot.contrasts(table.assign(verdict=NOT_TESTED, reason="rows are sets"))


def test_many_contrasts_stay_light(tables):
    one = tables[0]
    parts = [
        one.assign(metric=f"m{i}", layer=one["layer"] + 5 * j, role="metric")
        for i in range(3)
        for j in range(14)
    ]
    figure = ma.plot.contrasts(pd.concat(parts).drop_duplicates(["metric", "layer", "outcome"]))
    assert len(figure.to_json()) < MOST_BYTES / 2


def test_reliability_shows_the_bins_of_the_table():
    group = np.array(list("ab"))[np.arange(2000) % 2]
    p = predictions(power=2.0, group=group)
    table = ma.reliability(p, draws=100, bins=5)
    figure = ma.plot.reliability(table)
    whole = table[table["whole"]]
    points = [t for t in figure.data if t.mode == "markers" and t.xaxis == "x"]
    x = np.sort(np.concatenate([t.x for t in points]))
    assert x == pytest.approx(np.sort(whole["confidence"].to_numpy(float)), rel=1e-5)
    over = next(t for t in points if t.name == "over-confident")
    row = whole[(whole["confidence"].astype(float) - float(over.x[0])).abs() < 1e-5].iloc[0]
    assert over.y[0] == pytest.approx(row["accuracy"], rel=1e-5)
    # accuracy's limits are confidence less those of the gap
    assert over.y[0] + over.error_y.array[0] == pytest.approx(
        row["confidence"] - row["gap_low"], abs=1e-5
    )
    assert over.y[0] - over.error_y.arrayminus[0] == pytest.approx(
        row["confidence"] - row["gap_high"], abs=1e-5
    )
    assert [a.text for a in figure.layout.annotations[:3]][0] == "all predictions"
    assert note(figure).startswith("2,000 predictions")
    same = ma.plot.reliability(p, draws=100, bins=5)
    assert [t.name for t in same.data] == [t.name for t in figure.data]


def test_reliability_counts_what_it_leaves_out_and_refuses():
    p = predictions(n=4000, group=np.arange(4000) % 14)
    figure = ma.plot.reliability(p, draws=50, bins=4)
    assert "3 groups with smaller gaps left out" in note(figure)
    assert len(figure.to_json()) < MOST_BYTES
    with pytest.raises(InputError, match="lacks the column confidence"):
        ma.plot.reliability(pd.DataFrame({"correct": [True]}))
    table = ma.reliability(p, by=None, draws=50, bins=4)
    with pytest.raises(InputError, match="made already, so bins can change nothing"):
        ma.plot.reliability(table, bins=3)
    with pytest.raises(InputError, match="has no rows"):
        ma.plot.reliability(table.iloc[:0])


def test_routes_show_the_first_expert_and_all_weights():
    trace = by_hand()
    figure = ma.plot.routes(trace, trace.tokens["document"].iloc[0])
    heat = figure.data[0]
    assert heat.z.tolist() == [[pytest.approx(0.5), pytest.approx(0.6)]]
    assert [list(row) for row in heat.text] == [["0", "1"]]
    assert heat.hovertext[0][1] == "1: 0.600<br>0: 0.300"
    assert "4 routings: 2 tokens of the document's 2, 1 layer, up to 2 experts" in note(figure)


def test_routes_of_a_long_document_are_cut_and_say_so():
    trace = random_trace(documents=2, length=90)
    figure = ma.plot.routes(trace, 1, start=80, tokens=20)
    assert len(figure.data[0].x) == 10 and "10 tokens of the document's 90" in note(figure)
    rows = [trace.routing.assign(layer=trace.routing["layer"] + 10 * i) for i in range(40)]
    deep = SimpleNamespace(tokens=trace.tokens, routing=pd.concat(rows), facts=trace.facts)
    wide = ma.plot.routes(deep, 1)
    assert "Fewer than 48 tokens, to keep the figure light" in note(wide)
    assert len(wide.to_json()) < MOST_BYTES


def test_hostile_text_is_inert():
    trace = by_hand()
    tokens = trace.tokens.assign(text="<b>x</b>\n")
    figure = ma.plot.routes(ma.Trace(tokens, trace.routing, trace.facts), 0)
    assert figure.layout.xaxis.ticktext[0] == "&lt;b&gt;x&lt;/b&gt;\\n"


def test_routes_are_refused_in_words():
    with pytest.raises(InputError, match="holds no document 7; it holds 2 documents: 0, 1"):
        ma.plot.routes(by_hand(), 7)
    with pytest.raises(InputError, match="ends at position 1, and start=2"):
        ma.plot.routes(by_hand(), 0, start=2)
    with pytest.raises(InputError, match="A trace was expected, and this is a DataFrame"):
        ma.plot.routes(by_hand().tokens, 0)


def test_a_pruning_curve_is_its_own_figure_with_a_note():
    curve = curve_of({"reap": 0.05, "ean": 0.1}, draws=5)
    figure = ma.plot.pruning(curve)
    reap = next(t for t in figure.data if t.name == "reap")
    row = curve.table[curve.table["criterion"] == "reap"].iloc[0]
    assert reap.y[0] == pytest.approx(row["d_nll"])
    assert reap.customdata[0][1:3] == pytest.approx((row["low"], row["high"]))
    assert "4,000 predictions of 40 documents" in note(figure)
    assert "of 5 random choices" in note(figure)
    assert figure.layout.width is None
    alone = ma.plot.pruning(curve_of({"reap": 0.05, "ean": 0.1}, draws=0))
    assert "No random choices were drawn" in note(alone)
    with pytest.raises(InputError, match="this is a DataFrame"):
        ma.plot.pruning(curve.table)
    with pytest.raises(InputError, match="outcome"):
        ma.plot.pruning(curve, outcome="accuracy")


def test_plotly_is_loaded_when_a_figure_is_made():
    code = (
        "import sys, moeaudit as ma\n"
        "assert 'plot' in dir(ma) and 'moeaudit.report' not in sys.modules\n"
        "assert callable(ma.plot.map) and 'plotly' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
