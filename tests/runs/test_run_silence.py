"""Nothing goes without a word: metrics without values, layers left out, what computed the numbers."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from made import tiny_run
from made.architectures import BY_NAME

import moeaudit as ma
from moeaudit.causal.folder import EffectsFolder
from moeaudit.front import Run, audit
from moeaudit.report import render
from moeaudit.report.words.evidence import read
from moeaudit.runs.stages import distinct_metrics
from moeaudit.store.shards import Shards


@pytest.fixture(scope="module")
def flex(tmp_path_factory) -> Run:
    """FlexOlmo norms the routed output before the residual, so that EASY-EP cannot be computed."""
    model = ma.load(BY_NAME["flex_olmo"].build())
    rng = np.random.default_rng(0)
    arrays = [rng.integers(3, 300, 14) for _ in range(16)]
    return audit(
        model, arrays, out=tmp_path_factory.mktemp("flex") / "run", verify_rows=2, layers=[1, 3]
    )


def test_a_metric_that_is_null_everywhere_stands_in_tests_with_its_reason(flex):
    assert flex.experts[flex.experts["metric"] == "easy_ep"]["value"].isna().all()
    rows = flex.tests[flex.tests["metric"] == "easy_ep"]
    assert len(rows) == 2 * 2 * 2  # questions, outcomes, layers
    assert set(rows["verdict"]) == {"not estimable"}
    (reason,) = set(rows["reason"])
    assert reason == f"not estimable, because {flex.record['reasons']['easy_ep']}"
    assert "layer" in reason  # what the capture had to say of the residual stream


def test_it_was_declared_and_takes_no_part_in_corrections(flex):
    assert set(flex.tests["status"]) == {"confirmatory"}
    assert "easy_ep" not in flex.record["analysis"]["spec"]["metrics"]
    context = dict(flex.record["analysis"]["spec"]["context"])
    assert "easy_ep" in context["not estimable"].split(", ")
    tested = flex.tests[(flex.tests["role"] == "metric") & flex.tests["p"].notna()]
    assert set(tested["family_size"]) == {2 * len(flex.record["analysis"]["spec"]["metrics"])}


def test_the_page_and_the_console_say_it(flex, capsys):
    from io import StringIO

    from rich.console import Console

    from moeaudit.cli.terminal.answer import show

    page = render(flex)
    assert "Not estimable: EASY-EP (layers 1, 3), because" in page
    assert any("EASY-EP" in reason for reason in read(flex.tests).reasons())
    sink = StringIO()
    show(flex, Console(file=sink, width=100), flex.folder / "report.html")
    assert "Not estimable: EASY-EP (layers 1, 3), because" in sink.getvalue()
    assert "rows without an edit end within" in sink.getvalue()


def test_a_resumed_run_has_the_reasons(flex, tmp_path, tiny_model):
    call = functools.partial(
        audit, tiny_model, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, verify_rows=2, layers=[0]
    )
    first = call()
    assert first.record["reasons"] == {"domain_mi": "the metric documents are of one domain"}
    (first.folder / "tests.parquet").unlink()
    again = call()
    rows = again.tests[again.tests["metric"] == "domain_mi"]
    assert len(rows) and rows["reason"].str.contains("documents are of one domain").all()


def test_null_metrics_are_no_twins_of_each_other(flex):
    nulls = flex.experts.assign(value=np.nan)
    kept, notes = distinct_metrics(nulls)
    assert set(kept["metric"]) == set(nulls["metric"]) and notes == []


def test_notes_of_the_anatomy_reach_record_page_and_inspect(
    tiny_model, tmp_path, monkeypatch, capfd
):
    note = "OlmoeExperts at 'vision.experts' takes no part in reading text; not audited"
    noted = dataclasses.replace(
        tiny_model, anatomy=dataclasses.replace(tiny_model.anatomy, notes=(note,))
    )
    run = audit(noted, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, verify_rows=2, layers=[0])
    assert note in run.record["notes"]
    assert note.replace("'", "&#39;") in (run.folder / "report.html").read_text("utf-8")
    monkeypatch.setattr("moeaudit.models.load", lambda *_, **__: noted)
    from moeaudit.cli.asking.inspect import inspect

    inspect("anything")
    assert f"Note: {note}" in capfd.readouterr().out


def test_engine_and_drift_are_those_of_the_shards(finished, tiny_model, tmp_path, monkeypatch):
    folder = EffectsFolder(Shards(finished.folder / "effects"))
    assert finished.record["engine"] == folder.engine
    assert finished.record["drift"] == folder.drift > 0
    call = functools.partial(
        audit, tiny_model, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, verify_rows=2, layers=[0]
    )
    first = call()
    (first.folder / "tests.parquet").unlink()

    def asked(*_: object) -> None:
        raise AssertionError("the live model was asked which engine it would run on")

    monkeypatch.setattr("moeaudit.causal.walk.engine.replay_for", asked)
    monkeypatch.setattr("moeaudit.causal.replay_for", asked)
    again = call()
    assert again.record["engine"] == first.record["engine"]
    assert again.record["drift"] == first.record["drift"]


def test_an_audit_and_its_page_never_hold_all_effects(tiny_model, tmp_path, monkeypatch):
    whole = Shards.read

    def columns_only(self, columns=None):
        if self.folder.name == "effects" and (columns is None or len(columns) > 1):
            raise AssertionError("the whole effects table was read into memory")
        return whole(self, columns)

    monkeypatch.setattr(Shards, "read", columns_only)
    run = audit(
        tiny_model, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, verify_rows=2, layers=[0]
    )
    assert run.record["summary"]["rows"] > 0 and (run.folder / "report.html").is_file()
