"""Text of other domains beside the audit's own: its tables, resuming, refusing, and what is taken."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made import tiny_run

import moeaudit as ma
from moeaudit.errors import InputError, RunError
from moeaudit.front import Run
from moeaudit.runs import LogProgress
from moeaudit.runs.spec import AuditSpec
from moeaudit.runs.stages import test_table as table_of_tests
from moeaudit.text.choice import gather
from moeaudit.text.shift import shifted

NAMES = ("poems", "laws", "lists")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder of three domains, four short texts each."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in NAMES:
        (folder / name).mkdir()
        for number in range(4):
            text = f"{name} {number}: section {number * 7} of the {name} says that it is so."
            (folder / name / f"{number}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def both(tiny_model, elsewhere, tmp_path_factory):
    from moeaudit.front import audit

    out = tmp_path_factory.mktemp("both") / "run"
    return audit(tiny_model, tiny_run.TEXTS, out=out, tokens=12, verify_rows=2, shift=elsewhere)


def test_the_run_itself_is_as_without(both, finished):
    for name in ("tokens", "effects", "experts", "domains", "across_domains"):
        pd.testing.assert_frame_equal(getattr(both, name), getattr(finished, name))
    drop = ["declared", "supports", "status", "differs"]
    one, two = (r.tests.drop(columns=drop, errors="ignore") for r in (both, finished))
    pd.testing.assert_frame_equal(one, two)
    assert finished.shift is None


def test_the_shift_tables_are_of_the_other_documents_and_the_same_metrics(both):
    away = both.shift
    assert both.spec.shift == "documents" and both.spec.shift_documents == 4
    assert len(away.documents) == away.tokens["document"].nunique() == 4
    assert set(away.documents["domain"]) == set(NAMES) and set(away.documents["role"]) == {"shift"}
    assert not set(away.documents["id"]) & set(both.documents["id"])
    assert len(away.effects) == len(away.tokens) * 3 * 2  # layers, top-2
    assert away.summary["rows"] == len(away.effects)
    known = set(both.tests["metric"][both.tests["role"] == "metric"])
    metrics = both.experts[both.experts["metric"].isin(known)]
    spec = AuditSpec.from_dict(both.record["spec"])
    again = table_of_tests(away.effects, metrics, spec, LogProgress())
    numbers = [c for c in again if pd.api.types.is_numeric_dtype(again[c])]
    shared = ["question", "outcome", "metric", "verdict", *numbers]
    one, two = pd.DataFrame(away.tests[shared]), pd.DataFrame(again[shared])
    pd.testing.assert_frame_equal(one, two, check_dtype=False)
    assert set(away.tests["status"]) == {"confirmatory"}
    assert (both.folder / "shift_tests.parquet").is_file()
    assert [v["n"] for v in away.verification] == [2, 2] and both.alarm is None
    assert repr(away).startswith("The same audit in other domains")


def test_the_page_and_the_record_say_so(both):
    page = (both.folder / "report.html").read_text()
    assert "In 3 other domains (laws, lists, poems; 4 documents)" in page
    assert "further domains" in page
    assert both.record["shift"]["analysis"]["frozen"] <= both.record["stages"]["census"]["done"]


def test_another_shift_text_is_another_question(both, tiny_model, elsewhere):
    how = {"out": both.folder, "tokens": 12, "verify_rows": 2}
    with pytest.raises(RunError, match="shift is 'documents' there and '' here"):
        ma.audit(tiny_model, tiny_run.TEXTS, **how)
    with pytest.raises(RunError, match="the hash of the text of other domains is "):
        ma.audit(tiny_model, tiny_run.TEXTS, shift=elsewhere / "laws", **how)
    before = {p: p.stat().st_mtime_ns for p in both.folder.rglob("*") if p.is_file()}
    ma.audit(tiny_model, tiny_run.TEXTS, shift=elsewhere, **how)
    assert before == {p: p.stat().st_mtime_ns for p in both.folder.rglob("*") if p.is_file()}


class Stop(LogProgress):
    """Progress that fails when a stage begins."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        if name == self.at:
            raise RuntimeError("stopped")
        super().stage(name, total, unit, done)


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("at", ["verification, other domains", "domains"])
def test_an_interrupted_run_resumes_to_the_same_tables(at, both, tiny_model, elsewhere, tmp_path):
    how = {"out": tmp_path / "run", "tokens": 12, "verify_rows": 2, "shift": elsewhere}
    with pytest.raises(RuntimeError, match="stopped"):
        ma.audit(tiny_model, tiny_run.TEXTS, progress=Stop(at), **how)
    with pytest.raises(RunError, match="was not finished"):
        Run.load(tmp_path / "run")
    shards = sorted((tmp_path / "run" / "shift" / "effects").glob("*.parquet"))
    stamps = [p.stat().st_mtime_ns for p in shards]
    run = ma.audit(tiny_model, tiny_run.TEXTS, **how)
    assert stamps == [p.stat().st_mtime_ns for p in shards]
    pd.testing.assert_frame_equal(run.tests, both.tests)
    for name in ("effects", "tests", "domains", "across_domains"):
        pd.testing.assert_frame_equal(getattr(run.shift, name), getattr(both.shift, name))
    assert not (run.folder / "shift" / ".partial").exists()


@pytest.mark.usefixtures("no_page")
def test_domains_are_measured_here_and_elsewhere(tiny_model, elsewhere, tmp_path):
    from moeaudit.observe import capture, expert_metrics

    run = ma.audit(tiny_model, elsewhere, out=tmp_path / "run", tokens=12, verify_rows=2)
    table = run.experts_by_domain
    mine = run.documents[run.documents["role"] == "metrics"]
    assert set(table["domain"]) == set(mine["domain"]) and set(table["measured"]) == {
        "elsewhere",
        "here",
    }
    texts = {d.id: d for d in ma.documents(elsewhere)}
    rest = [texts[i].text for i in mine["id"][mine["domain"] != "laws"]]
    alone = expert_metrics(capture(tiny_model, rest), ["utilisation"])
    found = table[
        (table["measured"] == "elsewhere")
        & (table["domain"] == "laws")
        & (table["metric"] == "utilisation")
    ]
    assert len(rest) > 1 and np.isfinite(found["value"]).all()
    if all(len(t) < 40 for t in rest):  # read whole
        assert found["value"].to_numpy() == pytest.approx(alone["value"].to_numpy())


def test_the_bundled_split_is_taken_by_default_and_in_proportion(tiny_model):
    how = {"tokens": 16, "max_length": 64, "seed": 0}
    material = gather(tiny_model, None, documents=32, **how)
    found = shifted(tiny_model, None, None, material, **how)
    assert found is not None and found.source == "bundled"
    assert found.documents["domain"].value_counts().to_dict() == {
        "apidocs": 3,
        "encyclopedia_es": 3,
        "licences": 3,
    }
    assert shifted(tiny_model, None, False, material, **how) is None
    assert shifted(tiny_model, tiny_run.TEXTS, None, material, **how) is None
    named = shifted(tiny_model, tiny_run.TEXTS, "bundled", material, **how)
    assert named is not None and named.hash == found.hash


def test_what_cannot_be_taken_is_refused(tiny_model, tmp_path):
    how = {"out": tmp_path / "out", "tokens": 12}
    with pytest.raises(InputError, match="0 distinct document.s. that the audit does not read"):
        ma.audit(tiny_model, tiny_run.TEXTS, shift=tiny_run.TEXTS, **how)
    with pytest.raises(InputError, match="not arrays of tokens"):
        ma.audit(tiny_model, tiny_run.TEXTS, shift=[[1, 2, 3]] * 5, **how)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_page")
def test_effects_that_are_not_about_experts_are_measured_there_too(tiny_model, elsewhere, tmp_path):
    run = ma.audit(
        tiny_model, tiny_run.TEXTS, out=tmp_path / "run", operator="skip:1", layers=[1],
        tokens=12, verify_rows=1, shift=elsewhere,
    )  # fmt: skip
    assert run.shift is not None and len(run.shift.effects)
    for table in (run.shift.tests, run.domains, run.across_domains, run.shift.across_domains):
        assert table["reason"].notna().all()
