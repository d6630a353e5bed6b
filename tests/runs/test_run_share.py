"""An audit of a share of all removals: part of its question, said on its page, and what a census is not."""

from __future__ import annotations

import json

import pytest
from made import tiny_run
from typer.testing import CliRunner

import moeaudit as ma
from moeaudit.cli import app
from moeaudit.errors import InputError, RunError
from moeaudit.runs.spec import AuditSpec

SHARE = 0.4


@pytest.fixture(scope="module")
def sampled(tiny_model, tmp_path_factory):
    from moeaudit.front import audit

    out = tmp_path_factory.mktemp("sampled") / "run"
    return audit(tiny_model, tiny_run.TEXTS, out=out, tokens=12, verify_rows=2, share=SHARE, seed=1)


def test_the_share_is_part_of_the_question(sampled, small_audit, finished):
    assert (sampled.question.share, sampled.question.seed) == (SHARE, 1)
    assert AuditSpec.from_dict(json.loads(json.dumps(sampled.record["spec"]))) == sampled.spec
    with pytest.raises(RunError, match="question.share"):
        small_audit(out=sampled.folder, share=0.5, seed=1)
    with pytest.raises(RunError, match="question.share"):
        small_audit(out=finished.folder, share=0.5)


def test_a_census_says_nothing_of_a_share(finished):
    assert "share" not in finished.record["spec"]["question"]
    assert "possible" not in finished.record["summary"]
    assert "pi" not in finished.effects
    assert "census, not a sample" in (finished.folder / "report.html").read_text("utf-8")


def test_the_record_and_the_page_say_how_many_of_how_many(sampled):
    made = sampled.record["summary"]
    assert made["possible"] == len(sampled.tokens) * 3 * 2
    assert made["rows"] == len(sampled.effects) < made["possible"] / 2
    assert (sampled.effects["pi"] == SHARE).all()
    page = (sampled.folder / "report.html").read_text("utf-8")
    assert f"{made['rows']:,} of {made['possible']:,} removals" in page
    assert "a share of 0.4" in page and "design-based estimates" in page
    assert "census, not a sample" not in page and "The sample was computed by" in page
    assert all(v["agrees"] for v in sampled.verification)


def test_the_tests_are_there_and_resuming_keeps_all(sampled, small_audit):
    rows = sampled.tests[sampled.tests["question"] == "within-token contrast"]
    assert rows["d_z"].notna().any()
    before = (sampled.folder / "tests.parquet").read_bytes()
    small_audit(out=sampled.folder, share=SHARE, seed=1)
    assert (sampled.folder / "tests.parquet").read_bytes() == before


def test_a_frozen_plan_holds_the_share(tiny_model, tmp_path):
    settled = ma.plan(tiny_model, tiny_run.TEXTS, path=tmp_path / "p.json", tokens=12, share=0.25)
    assert settled.spec.question.share == 0.25
    with pytest.raises(RunError, match="question.share is 0.25 in the plan and 1.0 here"):
        ma.audit(tiny_model, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, plan=settled)


@pytest.mark.parametrize("share", [0, 1.5, float("nan"), "a tenth"])
def test_what_is_no_share_is_refused_before_anything_is_written(share, small_audit, tmp_path):
    with pytest.raises(InputError, match="above 0 and up to 1"):
        small_audit(out=tmp_path / "x", share=share)
    assert not (tmp_path / "x").exists()


def test_whole_documents_have_no_sample(small_audit, tmp_path):
    with pytest.raises(InputError, match="a sample of them saves nothing"):
        small_audit(out=tmp_path / "x", share=0.5, operator="everywhere:zero")


@pytest.mark.parametrize("share", ["0", "2", "nan", "some"])
def test_the_command_line_refuses_it_too(share, tmp_path):
    given = ["audit", "tiny-olmoe", "--share", share, "--out", str(tmp_path / "x")]
    found = CliRunner().invoke(app, given)
    assert found.exit_code != 0 and not (tmp_path / "x").exists()
