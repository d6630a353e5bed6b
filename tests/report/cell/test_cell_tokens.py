"""`ma.show_tokens`: the text in order, coloured by what was asked; numbers as in the tables."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from made import synthetic

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.report.cell.shown import MOST_BYTES, shade


@pytest.fixture(scope="module")
def view(run):
    return ma.show_tokens(run, 3)


def test_every_token_stands_there_with_its_means(view, run):
    mine = run.effects[run.effects["document"] == 3]
    means = mine.groupby("position")["delta_nll"].mean()
    assert view.table["delta_nll"].to_numpy() == pytest.approx(means.to_numpy(), rel=1e-5)
    assert view.table["value"].to_numpy() == pytest.approx(means.to_numpy(), rel=1e-5)
    text = "".join(run.tokens[run.tokens["document"] == 3].sort_values("position")["text"])
    assert "".join(view.table["text"]) == text and text in repr(view)
    worst = mine.loc[mine[mine["position"] == 4]["delta_nll"].idxmax()]
    row = view.table.set_index("position").loc[4]
    assert (row["layer"], row["expert"]) == (worst["layer"], worst["expert"])
    assert view.html.count('class="t" tabindex="0"') == len(means)


def test_the_sign_of_a_colour_is_that_of_the_effect(view):
    spans = re.findall(r'class="t" tabindex="0" style="([^"]*)"', view.html)
    for css, value in zip(spans, view.table["value"]):
        assert ("224,129,60" in css) == (value > 0) and ("63,134,191" in css) == (value < 0)
    assert shade(0.0, 1.0) == ""


@pytest.mark.parametrize("color", ["kl", "flip", "layer", "expert", "reap"])
def test_colours_of_the_readers_choice(run, color):
    view = ma.show_tokens(run, 3, color=color, layer=None if color == "layer" else 2)
    rows = run.effects[run.effects["document"] == 3]
    of_layer = rows[rows["layer"] == 2]
    value = view.table.set_index("position")["value"]
    if color in ("kl", "flip"):
        assert value.to_numpy() == pytest.approx(
            of_layer.groupby("position")[color].mean().to_numpy(), rel=1e-5
        )
    if color == "expert":
        most = of_layer.loc[of_layer["delta_nll"].abs().groupby(of_layer["position"]).idxmax()]
        first = most.set_index("position")["expert"]
        assert (value == first).all() and f"<sub>{int(value.iloc[0])}</sub>" in view.html
        assert (most["rank"] > 0).any()  # the strongest effect is not the largest weight
        every = ma.show_tokens(run, 3, color=color).table.set_index("position")["value"]
        at = rows[rows["position"] == 7]
        assert every[7] == at.loc[at["delta_nll"].abs().idxmax(), "expert"]
    if color == "layer":
        at = rows[rows["position"] == 7]
        assert value[7] == at.loc[at["delta_nll"].abs().idxmax(), "layer"]
    if color == "reap":
        score = run.experts[(run.experts["metric"] == "reap") & (run.experts["layer"] == 2)]
        at = of_layer[of_layer["position"] == 7].merge(score, on="expert")
        mean = (at["value"] * at["weight"]).sum() / at["weight"].sum()
        assert value[7] == pytest.approx(mean, rel=1e-5)


def test_hostile_text_is_inert_and_a_cell_stays_light(run):
    assert any("<b>" in word for word in synthetic.WORDS)
    view = ma.show_tokens(run, 3)
    assert "&lt;b&gt;" in view.html and "<script" not in view.html
    long = pd.concat(
        [
            run.effects[run.effects["document"] == 3].assign(
                position=lambda t, i=i: t["position"] + 30 * i
            )
            for i in range(40)
        ]
    )
    words = run.tokens[run.tokens["document"] == 3]
    table = pd.concat(
        [words.assign(position=words["position"] + 30 * i, text="\u4e16" * 400) for i in range(40)]
    )
    light = ma.show_tokens(long, 3, tokens=table)
    assert len(light.html.encode()) <= MOST_BYTES
    assert "to keep the cell light" in repr(light) and "moves on" in repr(light)
    further = ma.show_tokens(long, 3, tokens=table, start=int(light.table["position"].iloc[-1]) + 1)
    assert further.table["position"].iloc[0] == light.table["position"].iloc[-1] + 1


def test_a_sample_leaves_no_gap_in_the_text(run):
    part = run.effects[(run.effects["position"] % 3 == 0) & (run.effects["document"] == 3)]
    view = ma.show_tokens(part, 3, tokens=run.tokens)
    assert "".join(view.table["text"]) == "".join(ma.show_tokens(run, 3).table["text"])
    none = view.table[view.table["rows"] == 0]
    assert len(none) == 20 and none["value"].isna().all() and (none["expert"] == -1).all()
    assert view.html.count("None of its edits was made.") == 20


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"document": 99}, "There is no document 99: there are 12 documents"),
        ({"document": 3, "color": "harmm"}, "Unknown color='harmm'"),
        ({"document": 3, "layer": 17}, "Unknown layer 17"),
        ({"document": 3, "start": -1}, "a position from 0 on was expected"),
        ({"document": 3, "start": 500}, "Choose an earlier start"),
    ],
)
def test_wrong_input_is_one_paragraph(run, how, said):
    with pytest.raises(InputError, match=re.escape(said)) as error:
        ma.show_tokens(run, **how)
    assert "\n" not in str(error.value)


def test_a_metric_needs_its_table(run):
    with pytest.raises(InputError, match="metrics=ma.expert_metrics"):
        ma.show_tokens(run.effects, 3, color="reap", tokens=run.tokens)
