"""`ma.compare`: which differences are made, which are refused, and what is said of each."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from made import altered

import moeaudit as ma
from moeaudit.errors import InputError, RunError
from moeaudit.report.compare import asked
from moeaudit.runs.spec import AuditSpec
from moeaudit.stats.difference.verdicts import A_MORE, SAME
from moeaudit.store.question import Question
from moeaudit.store.shards import Shards

TWO = {"name": "reroute", "operator": {"operator": "Reroute", "scores": "kept"}}


def test_a_run_against_itself_is_zero_everywhere_and_claims_nothing(made_up):
    found = ma.compare(made_up, made_up)
    assert found.identical and found.pairs[0].asked.across == ()
    for table in (found.whole, found.thirds, found.layers, found.cells):
        assert (table["difference"] == 0.0).all() and (table["verdict"] == SAME).all()
        assert table["p"].isna().all() and table["low"].isna().all()
    assert "exactly 0.0" in repr(found) and "nothing is claimed" in repr(found)
    assert (found.ranks["rho"].dropna() > 1 - 1e-9).all() and found.ranks["low"].isna().all()


def test_what_differs_is_found_and_its_size_is_that_of_the_tables(
    compared, made_up, other_operator
):
    assert compared.pairs[0].asked.across == ("operator",)
    a, b = (Shards(run / "effects").read() for run in (other_operator, made_up))
    row = compared.whole.set_index("outcome").loc["delta_nll"]
    wanted = a["delta_nll"].astype(float).mean() - b["delta_nll"].astype(float).mean()
    assert row["difference"] == pytest.approx(wanted, rel=1e-9)
    assert row["rows_a"] == len(a) and row["documents"] == a["document"].nunique()
    cells = compared.cells[compared.cells["outcome"] == "delta_nll"].set_index(["layer", "expert"])
    harmed = cells.loc[(2, 3)]
    assert harmed["difference"] == pytest.approx(0.5, rel=1e-5)
    others = cells.drop(index=(2, 3))
    assert (others["verdict"] == SAME).all() and (others["difference"] == 0.0).all()
    assert (compared.cells[compared.cells["outcome"] == "kl"]["verdict"] == SAME).all()


def test_a_difference_of_all_rows_is_shown_paired_by_document(made_up, tmp_path):
    raised = altered.copy(
        made_up,
        tmp_path / "raised",
        question=TWO,
        effects=lambda t: t.assign(
            delta_nll=t["delta_nll"] + np.float32(0.05) * (1 + t["document"] % 3)
        ),
    )
    found = ma.compare(raised, made_up, outcomes="delta_nll")
    row = found.whole.iloc[0]
    assert row["verdict"] == A_MORE and 0.05 < row["low"] < row["high"] < 0.2
    assert "differences are paired by document" in repr(found)
    alone = ma.compare(raised, made_up, outcomes="delta_nll", sesoi=None).whole.iloc[0]
    assert alone["low"] == row["low"]


@pytest.mark.parametrize(
    ("spec", "question", "named"),
    [
        ({}, {"horizon": 4}, "question.horizon is"),
        ({"dtype": "bfloat16"}, TWO, "operator, dtype"),
    ],
)
def test_questions_that_cannot_be_compared_are_refused_by_name(
    made_up, tmp_path, spec, question, named
):
    other = altered.copy(made_up, tmp_path / "other", spec=spec, question=question)
    with pytest.raises(RunError, match=named):
        ma.compare(made_up, other)


def test_several_differences_are_compared_only_where_all_are_named(made_up, tmp_path):
    other = altered.copy(made_up, tmp_path / "other", spec={"dtype": "bfloat16"}, question=TWO)
    with pytest.raises(RunError, match="differ in dtype as well"):
        ma.compare(made_up, other, across="operator")
    found = ma.compare(made_up, other, across=("operator", "dtype"))
    assert "cannot be told" in repr(found)
    with pytest.raises(RunError, match="do not differ in share"):
        ma.compare(made_up, other, across="operator,dtype,share")
    with pytest.raises(InputError, match="Did you mean operator"):
        ma.compare(made_up, other, across="operatr")
    with pytest.raises(RunError, match="as well"):
        ma.compare(made_up, other, across="again")


def test_every_field_of_a_question_is_known_here():
    known = {*asked.OF_TESTS, *asked.OF_WORK, *asked.SHARED, *asked.NEVER}
    known = known.union(*(fields for fields, _ in asked.DIFFERENCES.values()))
    fields = {f.name for f in dataclasses.fields(AuditSpec)} - {"question"}
    fields |= {f"question.{f.name}" for f in dataclasses.fields(Question)}
    assert fields <= known


def test_other_documents_are_not_paired_and_that_is_said(made_up, tmp_path):
    renamed = altered.copy(
        made_up,
        tmp_path / "text",
        spec={"effect_text": "d" * 64},
        documents=lambda t: t.assign(id="x" + t["id"]),
    )
    found = ma.compare(made_up, renamed, outcomes="delta_nll")
    assert found.pairs[0].asked.across == ("text",) and found.pairs[0].documents == (12, 0, 12)
    row = found.whole.iloc[0]
    assert row["difference"] == 0.0 and row["documents"] == 24 and row["low"] < 0 < row["high"]
    assert "nothing is paired" in repr(found) and "Holm" in " ".join(_method(found))


def _method(found):
    from moeaudit.report.compare.about import method

    return method(found)


def test_a_model_of_another_depth_has_no_cells_and_says_so(made_up, tmp_path):
    deep = json.loads((made_up / "audit.json").read_text())["model"] | {"decoder_layers": 12}
    other = altered.copy(
        made_up,
        tmp_path / "deep",
        spec={"model": "deep", "weights": "e" * 64},
        record={"model": deep},
    )
    found = ma.compare(made_up, other)
    assert found.layers.empty and found.cells.empty and found.ranks.empty and found.verdicts.empty
    assert set(found.thirds["third"]) == {"early", "middle", "late"}
    late = found.thirds[(found.thirds["third"] == "late")]
    assert (late["rows_b"] == 0).all() and (late["verdict"] == "not estimable").all()
    assert "6 decoder layers and B has 12" in " ".join(found.not_compared)
    assert not found.profile.empty and found.figure().data


def test_experts_of_other_weights_are_compared_where_routing_knows_them(made_up, tmp_path):
    spec = {"model": "later", "weights": "e" * 64}
    same = altered.copy(made_up, tmp_path / "later", spec=spec)
    found = ma.compare(made_up, same)
    assert not found.cells.empty and found.pairs[0].correspondence.p <= 0.01
    order = np.random.default_rng(0).permutation(16).astype("int16")

    def renumbered(table):
        return table.assign(expert=order[table["expert"]])

    other = altered.copy(
        made_up, tmp_path / "other", spec=spec, effects=renumbered, routing=renumbered
    )
    found = ma.compare(made_up, other)
    assert found.cells.empty and not found.layers.empty
    assert "numbers mean nothing across these weights" in " ".join(found.not_compared)
    assert not ma.compare(made_up, other, cells="index").cells.empty
    assert ma.compare(made_up, same, cells="none").cells.empty


def test_verdicts_of_another_recipe_are_not_counted(made_up, compared, tmp_path):
    assert compared.agreement["cells"].sum() == len(compared.verdicts)
    assert (compared.agreement["same"] == compared.agreement["cells"]).all()
    other = altered.copy(made_up, tmp_path / "strict", spec={"alpha": 0.01})
    found = ma.compare(made_up, other)
    assert found.verdicts.empty and found.identical  # of effects
    assert "alpha is 0.05" in " ".join(found.not_compared)


def test_a_sample_says_what_its_rows_stand_for(made_up, tmp_path):
    half = altered.copy(
        made_up,
        tmp_path / "half",
        question={"share": 0.5, "seed": 3},
        effects=lambda t: t[t["position"] % 2 == 0].assign(pi=0.5).reset_index(drop=True),
    )
    found = ma.compare(made_up, half, outcomes="delta_nll")
    assert found.pairs[0].asked.across == ("share",)
    assert "1 / share" in repr(found)
    row = found.whole.iloc[0]
    assert row["rows_b"] * 2 == row["rows_a"] and row["low"] < 0 < row["high"]


def test_three_runs_are_each_taken_from_the_first(made_up, other_operator, tmp_path):
    third = altered.copy(
        made_up, tmp_path / "third", question={"name": "scale", "operator": {"operator": "Scale"}}
    )
    found = ma.compare(made_up, other_operator, third, outcomes="delta_nll")
    assert list(found.whole["b"]) == ["B", "C"] and found.whole["family_size"].tolist() == [2, 2]
    assert found.whole["verdict"].iloc[1] == SAME
    assert [side.name for side in found.sides] == ["zero", "reroute", "scale"]


def test_it_shows_itself_lightly(compared):
    assert len(compared._repr_html_()) < 50_000 and "<table>" in compared._repr_html_()
    figure = compared.figure("kl")
    assert [trace.type for trace in figure.data] == ["heatmap"] * 3
    assert len(figure.to_json()) < 300_000
    said = json.loads(json.dumps(compared.to_dict(), allow_nan=False))
    assert said["pairs"][0]["across"] == ["operator"]
    assert len(said["cells"]) == len(compared.cells)
    with pytest.raises(InputError, match="outcome"):
        compared.figure("delta_brier")


@pytest.mark.parametrize(
    ("asked_for", "error", "words"),
    [
        ({"outcomes": "delta_brier"}, RunError, "has not measured delta_brier"),
        ({"outcomes": "nonsense"}, InputError, "outcome"),
        ({"outcomes": []}, InputError, "No outcome"),
        ({"names": ["one"]}, InputError, "2 names"),
        ({"cells": "all"}, InputError, "check, index, none"),
        ({"sesoi": -1.0}, InputError, "positive"),
        ({"alpha": 1.5}, InputError, "between 0 and 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(made_up, asked_for, error, words):
    with pytest.raises(error, match=words):
        ma.compare(made_up, made_up, **asked_for)


def test_folders_that_cannot_be_read_are_named(made_up, tmp_path):
    with pytest.raises(InputError, match="int"):
        ma.compare(made_up, 3)
    with pytest.raises(RunError, match=r"nowhere.*audit\.json"):
        ma.compare(made_up, tmp_path / "nowhere")
    newer = altered.copy(made_up, tmp_path / "newer", record={"format": "moeaudit-run/9"})
    with pytest.raises(RunError, match=r"newer.*format"):
        ma.compare(made_up, newer)
    started = altered.copy(made_up, tmp_path / "started", record={"status": "running"})
    with pytest.raises(RunError, match="not finished"):
        ma.compare(made_up, started)
    empty = altered.copy(made_up, tmp_path / "empty")
    for path in (empty / "effects").iterdir():
        path.unlink()
    with pytest.raises(RunError, match="empty/effects holds no effects"):
        ma.compare(made_up, empty)
    torn = altered.copy(made_up, tmp_path / "torn")
    (torn / "effects" / "00000.parquet").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"torn/effects/00000\.parquet is damaged"):
        ma.compare(made_up, torn)
    bare = altered.copy(made_up, tmp_path / "bare", documents=lambda t: t.drop(columns="id"))
    with pytest.raises(RunError, match=r"bare/documents\.parquet has no column id"):
        ma.compare(made_up, bare)
