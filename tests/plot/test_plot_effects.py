"""`ma.plot` of effects: figures show the numbers of the tables; what cannot be drawn is refused in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made import tiny_moe
from made.census import QUICK, census
from made.shards import Cut

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.report.figures import svg
from moeaudit.report.plot.sheet import MOST_BYTES
from moeaudit.report.plot.tails import threshold


def note(figure) -> str:
    return figure.layout.meta["note"]


@pytest.fixture(scope="module")
def effects() -> pd.DataFrame:
    return census(documents=12, tokens=14, layers=(1, 4), experts=6)[0]


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    return census(documents=12, tokens=14, layers=(1, 4), experts=6)[1]


def test_a_map_shows_means_limits_and_who_was_never_active(effects):
    figure = ma.plot.map(effects, num_experts={1: 6, 4: 8})
    heat = figure.data[0]
    mean = effects.groupby(["layer", "expert"])["delta_nll"].mean()
    assert list(heat.y) == ["layer 1", "layer 4"] and list(heat.x) == list(range(8))
    assert heat.z[:, :6] == pytest.approx(mean.to_numpy().reshape(2, 6), rel=1e-5)
    assert np.isnan(heat.z[:, 6:]).all()
    harm = ma.harm_by_expert(effects).iloc[0]
    rows, documents = heat.customdata[0, 0, 2:]
    assert (rows, documents) == (harm["rows"], harm["documents"])
    assert heat.customdata[0, 0, 0] < harm["harm"] < heat.customdata[0, 0, 1]
    assert "%{customdata[0]:+.3g}" in heat.hovertemplate and "nats" in heat.hovertemplate
    never = next(t for t in figure.data if t.name == "never active here")
    assert list(zip(never.x, never.y)) == [(6, "layer 4"), (7, "layer 4")]
    assert "2 experts never active" in note(figure)
    assert f"{len(effects):,} removals in 12 documents" in note(figure)
    use = ma.plot.map(effects, value="share").data[0]
    share = effects.groupby(["layer", "expert"]).size() / (12 * 14)
    assert use.name == "Use" and use.z == pytest.approx(share.to_numpy().reshape(2, 6), rel=1e-5)


def test_the_menu_of_the_map_shows_one_map_and_its_own_marks(effects):
    pushed = effects.assign(delta_nll=effects["delta_nll"] + 50)
    figure = ma.plot.map(pushed)
    names = [t.name for t in figure.data]
    assert names == ["Mean harm", "Mean disturbance", "Use", "95% limits of harm exclude 0"]
    shown = [list(button.args[1]) for button in figure.layout.updatemenus[0].buttons]
    assert shown == [
        [True, False, False, True],
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert len(figure.data[3].x) == 12  # every cell


def test_shards_give_what_the_table_gives(effects):
    whole, parts = ma.plot.map(effects), ma.plot.map(Cut(effects, 3))
    assert parts.data[0].z == pytest.approx(whole.data[0].z)
    assert note(parts) == note(whole)


def test_a_sample_says_so_and_does_not_show_use(effects):
    part = effects.sample(frac=0.5, random_state=0).assign(pi=0.5)
    figure = ma.plot.map(part)
    assert [t.name for t in figure.data[:2]] == ["Mean harm", "Mean disturbance"]
    assert "a sample of 50% of all" in note(figure) and "Use is left out" in note(figure)
    with pytest.raises(InputError, match="of a sample of removals it is not known"):
        ma.plot.map(part, value="share")
    assert "a sample of 50%" in note(ma.plot.tails(part))
    assert "a sample of 50%" in note(ma.plot.depth(part))


def test_depth_shows_means_with_limits_by_document(effects):
    figure = ma.plot.depth(effects)
    assert [t.name for t in figure.data] == [
        "Mean harm",
        "Mean disturbance",
        "Top prediction changed",
    ]
    by_layer = effects.groupby("layer")
    assert figure.data[0].y == pytest.approx(by_layer["delta_nll"].mean().to_numpy())
    assert figure.data[2].y == pytest.approx(100 * by_layer["flip"].mean().to_numpy())
    documents = effects[effects["layer"] == 1].groupby("document")["kl"].mean()
    half = 2.201 * documents.std() / np.sqrt(12)  # Student's t of 11; documents are of one length
    assert figure.data[1].error_y.array[0] == pytest.approx(half, rel=1e-3)
    assert "504 removals in 12 documents" in figure.data[0].hovertext[0]
    assert figure.layout.yaxis.title.text == "nats per removal"


def test_depth_of_a_table_of_means():
    table = pd.DataFrame(
        {"layer": [3, 1], "kl": [0.2, 0.1], "kl_low": [0.1, None], "kl_high": [0.3, None]}
    )
    figure = ma.plot.depth(table)
    assert list(figure.data[0].x) == [1, 3] and list(figure.data[0].y) == [0.1, 0.2]
    assert figure.data[0].error_y.array[1] == pytest.approx(0.1)
    with pytest.raises(InputError, match="lacks the columns delta_nll_low, delta_nll_high"):
        ma.plot.depth(table.assign(delta_nll=1.0))
    with pytest.raises(InputError, match="layer 3 more than once"):
        ma.plot.depth(pd.concat([table, table]))
    with pytest.raises(InputError, match="lacks the column delta_nll;"):
        ma.plot.depth(table[["layer"]])


def test_tails_show_quantiles_on_a_symmetric_log_axis(effects):
    figure = ma.plot.tails(effects)
    values = effects.loc[effects["layer"] == 4, "delta_nll"]
    spread = pd.DataFrame(
        {q: effects.groupby("layer")["delta_nll"].quantile(q) for q in (0.25, 0.75)}
    )
    squash = svg.symlog(threshold(spread))
    bar = next(t for t in figure.data if t.name == "central 90%")
    low, high = values.quantile(0.05), values.quantile(0.95)
    assert bar.base[1] == pytest.approx(squash(low))
    assert bar.base[1] + bar.x[1] == pytest.approx(squash(high))
    ends = next(t for t in figure.data if t.name == "least and most")
    assert ends.x[2] == pytest.approx(squash(values.min()))
    assert f"{values.max():+.2f}" in ends.hovertext[3]
    assert "fewer than 1,000 removals" in note(figure)


def test_harm_against_a_metric_has_limits_ceiling_and_counts_who_has_no_value(effects, metrics):
    scores = metrics[~((metrics["layer"] == 4) & (metrics["expert"] == 5))]
    figure = ma.plot.harm_against_metric(effects, scores, "id")
    harm = ma.harm_by_expert(effects)
    one = harm[harm["layer"] == 1]
    first, second = figure.data
    assert list(first.x) == list(range(6)) and len(second.x) == 5
    assert first.y == pytest.approx(one["harm"].to_numpy(), rel=1e-5)
    assert first.y + first.error_y.array == pytest.approx(one["harm_high"].to_numpy(), rel=1e-4)
    assert first.customdata[:, 3].tolist() == one["rows"].tolist()
    assert "1 expert without a value" in note(figure)
    ranks = ma.expert_harm(effects, scores[scores["metric"] == "id"], **QUICK)
    told = ma.plot.harm_against_metric(effects, scores, "id", table=ranks)
    row = ranks[(ranks["metric"] == "id") & (ranks["layer"] == 1)].iloc[0]
    assert f"{row['rho']:+.2f}".replace("-", "\N{MINUS SIGN}") in told.layout.annotations[0].text
    assert f"ceiling {row['ceiling']:.2f}" in told.layout.annotations[0].text


def test_few_documents_leave_the_ceiling_out_and_say_why(effects, metrics):
    few = effects[effects["document"] < 3]
    figure = ma.plot.harm_against_metric(few, metrics, "id", outcome="kl")
    assert "No rank correlation and no ceiling: The effects hold 3 document(s)" in note(figure)
    assert "ceiling" not in figure.layout.annotations[0].text
    assert figure.layout.yaxis.title.text == "mean disturbance, nats"


@pytest.mark.parametrize("draw", [ma.plot.map, ma.plot.depth, ma.plot.tails])
def test_what_is_no_table_of_effects_is_refused_in_words(draw, effects):
    with pytest.raises(
        InputError, match=r"lacks the column kl; .* Pass the effects that ma\.ablate"
    ):
        draw(effects.drop(columns="kl"))
    with pytest.raises(InputError, match="has no rows, so there is nothing to draw"):
        draw(effects.iloc[:0])
    with pytest.raises(InputError, match="this is a list"):
        draw([1, 2])
    with pytest.raises(InputError, match="column delta_nll of the effects holds 1 value"):
        draw(effects.assign(delta_nll=[np.nan, *effects["delta_nll"][1:]]))
    mixed = effects.copy()
    mixed.attrs["moeaudit"] = {"mixed": ["zero", "reroute"]}
    with pytest.raises(InputError, match=r"different questions \(zero; reroute\)"):
        draw(mixed)


def test_wrong_choices_are_refused(effects, metrics):
    with pytest.raises(InputError, match="Did you mean delta_nll"):
        ma.plot.map(effects, value="deltanll")
    with pytest.raises(
        InputError, match="num_experts gives layer 1 4, and the effects name expert 5"
    ):
        ma.plot.map(effects, num_experts=4)
    with pytest.raises(InputError, match="Unknown metric 'reap'"):
        ma.plot.harm_against_metric(effects, metrics, "reap")
    with pytest.raises(InputError, match="metrics table has no rows"):
        ma.plot.harm_against_metric(effects, metrics.iloc[:0], "id")
    with pytest.raises(InputError, match="layers 1, 4, the metric 9"):
        ma.plot.harm_against_metric(effects, metrics[metrics["layer"] == 1].assign(layer=9), "id")


def test_rows_about_ranks_have_a_map_of_ranks(effects):
    from moeaudit.report.plot.map import face
    from moeaudit.report.words.operator import OperatorWords
    from moeaudit.report.words.subject import SubjectCells
    from moeaudit.report.words.summary import summaries

    cells = summaries(effects, {"cells": SubjectCells("rank")})["cells"]
    heat = face(cells, OperatorWords("cut", "cuts", "Cutting", "cut", subject="rank")).data[0]
    mean = effects.groupby(["layer", "rank"])["delta_nll"].mean()
    assert heat.z == pytest.approx(mean.to_numpy().reshape(2, 3), rel=1e-5)
    nobody = effects.assign(expert=-1)
    assert list(ma.plot.map(nobody).data[0].z[:, 0]) == pytest.approx(
        effects.groupby("layer")["delta_nll"].mean().tolist(), rel=1e-5
    )


def test_figures_of_a_large_model_stay_light():
    layers, experts = 27, 64
    effects, metrics = census(
        documents=3, tokens=40, layers=range(layers), experts=experts, top_k=6
    )
    metrics = metrics[metrics["metric"] == "id"]
    drawn = {
        "map": ma.plot.map(effects),
        "depth": ma.plot.depth(effects),
        "tails": ma.plot.tails(effects),
        "harm": ma.plot.harm_against_metric(effects, metrics, "id"),
    }
    assert {name for name, figure in drawn.items() if len(figure.to_json()) > MOST_BYTES} == set()
    assert "value= chooses" in note(drawn["map"])
    assert "are left out to keep the figure light" in note(drawn["harm"])
    assert len(drawn["harm"].data) == 24


def test_titles_say_what_was_done_and_cells_follow_the_rows(tmp_path):
    model = tiny_moe.load("olmoe")
    docs = [tiny_moe.ids(9, seed=seed) for seed in range(2)]
    cuts = ma.ablate(model, docs, ma.Skip())
    figure = ma.plot.map(cuts)
    assert figure.layout.xaxis.title.text == "rank"
    assert figure.layout.title.subtitle.text.startswith("Removing the tail of the active experts")
    assert f"{len(cuts)} cuts in 2 documents" in note(figure)
    with pytest.raises(InputError, match="rows are about one rank, not about experts"):
        ma.plot.map(cuts, value="share")
    folder = ma.ablate(model, docs, ma.Zero(), out=tmp_path / "effects")
    assert ma.plot.depth(folder).data[0].y == pytest.approx(
        ma.ablate(model, docs, ma.Zero()).groupby("layer")["delta_nll"].mean().to_numpy(), rel=1e-5
    )
