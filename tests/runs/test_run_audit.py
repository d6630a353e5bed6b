"""The audit end to end on a tiny model: tables, resuming after a kill, refusing, being a no-op."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from moeaudit.errors import InputError, RunError
from moeaudit.front import Run
from moeaudit.runs import LogProgress

TABLES = ("documents", "tokens", "experts", "tests", "routing", "effects")


def same_tables(one: Run, two: Run) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True)


def test_the_folder_has_what_it_should(finished):
    names = {path.name for path in finished.folder.iterdir()}
    tables = {
        f"{name}.parquet"
        for name in ("documents", "vocabulary", "tokens", "experts", "tests", "equal_mass")
    }
    by_domain = {"experts_by_domain.parquet", "domains.parquet", "across_domains.parquet"}
    assert names == {"audit.json", "report.html", "routing", "effects", *tables, *by_domain}
    record = json.loads((finished.folder / "audit.json").read_text())
    assert record["status"] == "finished"
    stages = ["metrics", "census", "verification", "statistics", "equal mass", "domains"]
    assert list(record["stages"]) == stages
    session = record["sessions"][0]
    assert session["packages"]["torch"]
    assert session["torch_threads"] >= 1
    assert set(session["code"]) == {"commit", "dirty", "reason"}
    assert record["model"]["experts_implementation"]
    assert [v["engine"] for v in record["verification"]] == ["hooks", "nnsight"]
    assert all(v["agrees"] and v["n"] == 2 for v in record["verification"])


def test_every_token_layer_and_active_expert_is_there_once(finished):
    effects, tokens = finished.effects, finished.tokens
    assert len(effects) == len(tokens) * 3 * 2  # layers, top-2
    assert not effects.duplicated(["document", "position", "layer", "rank"]).any()
    keys = ["document", "position", "layer", "rank", "expert"]
    pd.testing.assert_frame_equal(
        effects[keys].sort_values(keys[:4], ignore_index=True),
        finished.routing[keys].sort_values(keys[:4], ignore_index=True),
        check_dtype=False,
    )
    assert len(finished.documents) == 20
    shared = finished.documents["id"].duplicated()
    assert not shared.any()


def test_tests_cover_both_questions_and_outcomes_once(finished):
    pairs = finished.tests.groupby(["question", "outcome"]).size()
    assert set(pairs.index) == {
        (question, outcome)
        for question in ("within-token contrast", "per-expert expected harm")
        for outcome in ("delta_nll", "kl")
    }
    # MAN is the mean activation norm under another name, and is not counted twice
    assert "man" in set(finished.experts["metric"])
    assert "man" not in set(finished.tests["metric"])
    assert any("man equals activation_norm" in note for note in finished.record["notes"])


def test_repr_is_a_sentence_with_the_numbers(finished):
    text = repr(finished)
    assert f"{len(finished.effects):,} removals" in text
    assert "2 rows by nnsight" in text
    assert str(finished.folder) in text
    assert "<table>" in finished._repr_html_()


def test_a_second_call_computes_nothing(finished, small_audit):
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*") if p.is_file()}

    class Silent(LogProgress):
        def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
            raise AssertionError(f"stage {name} was run again")

    again = small_audit(out=finished.folder, progress=Silent())
    assert again.record == finished.record
    assert before == {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*") if p.is_file()}


def test_another_question_is_refused_and_nothing_changes(finished, small_audit):
    before = (finished.folder / "audit.json").read_bytes()
    with pytest.raises(RunError, match="seed is 0 there and 1 here"):
        small_audit(out=finished.folder, seed=1)
    with pytest.raises(RunError, match=r"layers is \[0, 1, 2\] there and \[1\] here"):
        small_audit(out=finished.folder, layers=[1])
    assert (finished.folder / "audit.json").read_bytes() == before


def test_bad_questions_leave_no_folder(small_audit, tmp_path):
    out = tmp_path / "out"
    for wrong in ({"layers": [99]}, {"verify_rows": 0}, {"max_length": 10_000}):
        with pytest.raises(InputError):
            small_audit(out=out, **wrong)
    with pytest.raises(RunError, match="is a folder"):
        small_audit(out=out, report=tmp_path)
    assert not out.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from made import tiny_run
from moeaudit.front import audit
from moeaudit.store.shards import Shards

write = Shards.write
def write_and_die(self, number, frame):
    if self.folder.name == "effects" and number == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # the second group is computed and not written
    write(self, number, frame)
Shards.write = write_and_die
audit(sys.argv[1], tiny_run.TEXTS, out=sys.argv[2], tokens=12, verify_rows=2)
"""


@pytest.mark.usefixtures("no_page")
def test_a_killed_run_resumes_to_identical_tables(finished, tiny_folder, small_audit, tmp_path):
    out = tmp_path / "killed"
    path = os.pathsep.join(["tests", *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_folder), str(out)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    first = out / "effects" / "00000.parquet"
    stamp = first.stat().st_mtime_ns
    assert json.loads((out / "audit.json").read_text())["status"] == "running"
    with pytest.raises(RunError, match="was not finished"):
        Run.load(out)
    run = small_audit(out=out)
    assert first.stat().st_mtime_ns == stamp  # the finished shard was kept
    assert len(run.record["sessions"]) == 2
    same_tables(finished, run)


class Interrupt(Exception):
    pass


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("stage", ["routing metrics", "verification", "statistics"])
def test_an_exception_in_any_stage_can_be_resumed(finished, small_audit, tmp_path, stage):
    class Stopping(LogProgress):
        def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
            if name == stage:
                raise Interrupt

    with pytest.raises(Interrupt):
        small_audit(out=tmp_path / "out", progress=Stopping())
    same_tables(finished, small_audit(out=tmp_path / "out"))


@pytest.mark.usefixtures("no_page")
def test_a_lost_shard_is_computed_again(finished, small_audit, tmp_path):
    run = small_audit(out=tmp_path / "out")
    (run.folder / "effects" / "00000.parquet").unlink()
    again = small_audit(out=tmp_path / "out")
    same_tables(finished, again)


def test_some_layers_only(small_audit, tmp_path):
    run = small_audit(out=tmp_path / "out", layers=[2])
    assert set(run.effects["layer"]) == set(run.routing["layer"]) == {2}
    assert set(run.experts["layer"]) == set(run.tests["layer"]) == {2}
    assert "layers 0, 1 were not audited" in run.report().read_text()


@pytest.mark.usefixtures("no_page")
def test_fewer_documents_than_asked_for_are_noted(small_audit, tmp_path):
    run = small_audit(out=tmp_path / "out", documents=50, layers=[0])
    assert run.spec.effect_documents == 10
    assert any(note.startswith("50 documents were asked for") for note in run.record["notes"])


def test_a_run_that_fails_verification_says_so_loudly(finished):
    broken = json.loads(json.dumps(finished.record))
    broken["verification"][0] |= {"agrees": False, "max_abs_delta_nll": 0.5}
    run = Run(finished.folder, broken)
    assert run.alarm is not None
    assert "hooks disagree" in run.alarm
    text = (run.report(finished.folder.parent / "alarm.html")).read_text()
    assert 'role="alert">Verification failed' in text
    assert finished.alarm is None
    for entry in broken["verification"]:
        entry |= {"agrees": False, "n": 0, "skipped": "it cannot"}
    assert "not verified" in str(Run(finished.folder, broken).alarm)
