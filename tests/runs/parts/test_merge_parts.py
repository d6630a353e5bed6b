"""Parts of a run: measured apart, put together as one run would have it, refused where they are none."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
from made import tiny_run
from made.same import tables
from made.without_page import without_page

import moeaudit as ma
from moeaudit.errors import InputError, RunError
from moeaudit.front import Run, audit, merge
from moeaudit.runs.parts.division import read_part
from moeaudit.runs.parts.part import audit_part
from moeaudit.store.shards import Shards

N = 3  # two groups of effect documents, one of the shift text


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Text of other domains: two, of two short documents each."""
    folder = tmp_path_factory.mktemp("other")
    for name in ("poems", "laws"):
        for number in range(2):
            path = folder / name / f"{number}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{name} {number}: section {number * 7} of the {name} says so.")
    return folder


@pytest.fixture(scope="module")
def asked(tiny_folder, other):
    return functools.partial(
        dict, model=ma.load(tiny_folder), docs=tiny_run.TEXTS, tokens=8, layers=[0, 2], shift=other
    )


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("whole") / "run"
    with without_page():
        return audit(**asked(verify_rows=1, verify_engines=("hooks",), out=out))


@pytest.fixture(scope="module")
def measure(asked):
    return lambda shard, out, **more: audit_part(
        **asked(verify_rows=1, verify_engines=("hooks",)), shard=shard, out=out, **more
    )


@pytest.fixture(scope="module")
def parts(measure, tmp_path_factory) -> list[Path]:
    place = tmp_path_factory.mktemp("parts")
    return [measure(f"{i}/{N}", place / f"{i}").folder for i in range(1, N + 1)]


@pytest.fixture(scope="module")
def merged(parts, tmp_path_factory) -> Run:
    return merge(reversed(parts), out=tmp_path_factory.mktemp("merged") / "run")


def test_every_table_is_that_of_the_undivided_run_byte_for_byte(whole, merged):
    assert tables(merged.folder) == tables(whole.folder)
    assert {"tests.parquet", "shift_tests.parquet", "shift/effects/00000.parquet"} <= set(
        tables(whole.folder)
    )
    for place in ("effects", "routing", "shift/effects"):
        one, two = ((run.folder / place / "manifest.json").read_bytes() for run in (whole, merged))
        assert one == two
    assert merged.record["spec_hash"] == whole.record["spec_hash"]
    assert merged.record["summary"] == whole.record["summary"]
    assert merged.record["drift"] == whole.record["drift"]
    assert merged.record["analysis"]["spec"] == whole.record["analysis"]["spec"]


def test_the_record_says_that_there_were_parts(merged, parts):
    assert merged.record["merged"] == {"parts": N} and len(merged.record["sessions"]) == N
    assert any(note.startswith(f"Measured in {N} parts") for note in merged.record["notes"])
    (checked,) = merged.verification
    counted = [json.loads((p / "audit.json").read_text())["part"] for p in parts]
    assert checked["n"] == sum(bool(each["effects"]) for each in counted) and checked["agrees"]
    assert (merged.folder / "report.html").is_file()


def test_each_group_is_measured_once_and_only_the_first_part_measures_metrics(parts):
    records = [json.loads((part / "audit.json").read_text()) for part in parts]
    for name, total in (("effects", 2), ("shift", 1)):
        assert sorted(n for r in records for n in r["part"][name]) == list(range(total))
    assert [("metrics" in r["stages"], (p / "experts.parquet").is_file()) for r, p in zip(records, parts)] == [
        (True, True), (False, False), (False, False)
    ]  # fmt: skip
    assert all(r["status"] == "part" for r in records)


def test_a_part_can_be_read_and_is_no_run(parts, whole):
    of_part = next(p for p in parts if Shards(p / "effects").manifest)
    frame = ma.effects(of_part).read()
    assert 0 < len(frame) < len(whole.effects)
    with pytest.raises(RunError, match=r"holds part \d of 3 of a run"):
        Run.load(of_part)


def test_a_finished_merge_and_a_finished_part_are_left_alone(merged, parts, measure):
    before = {p: p.stat().st_mtime_ns for f in (merged.folder, *parts) for p in f.rglob("*.*")}
    assert merge(parts, out=merged.folder).record == merged.record
    assert "part 2 of 3" in repr(measure("2/3", parts[1])).lower()
    assert before == {
        p: p.stat().st_mtime_ns for f in (merged.folder, *parts) for p in f.rglob("*.*")
    }


@pytest.mark.usefixtures("no_page")
def test_an_interrupted_merge_goes_on(parts, whole, tmp_path, monkeypatch):
    take, taken = Shards.take, []

    def twice(self, other, number):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(number)
        take(self, other, number)

    monkeypatch.setattr(Shards, "take", twice)
    with pytest.raises(KeyboardInterrupt):
        merge(parts, out=tmp_path / "run")
    monkeypatch.undo()
    assert tables(merge(parts, out=tmp_path / "run").folder) == tables(whole.folder)


def copies(parts: list[Path], place: Path) -> list[Path]:
    return [Path(shutil.copytree(part, place / part.name)) for part in parts]


def changed(folder: Path, edit) -> None:
    record = json.loads((folder / "audit.json").read_text())
    edit(record)
    (folder / "audit.json").write_text(json.dumps(record))


@pytest.mark.usefixtures("no_page")
def test_parts_that_make_no_run_are_refused_and_nothing_is_written(
    parts, merged, tmp_path, measure
):
    out = tmp_path / "out"
    first, second, third = copies(parts, tmp_path / "copies")

    def refused(folders, words):
        with pytest.raises((RunError, InputError), match=words):
            merge(folders, out=out)
        assert not out.exists()

    refused([], "nothing to merge")
    refused([first, third], r"Part 2 of 3 is missing.*--shard 2/3")
    refused([first, second, second, third], "overlap: both are part 2 of 3")
    refused([tmp_path / "nowhere", second], "is not a run folder")
    refused([merged.folder, second], "is a whole run and no part")
    changed(third, lambda r: r.update(status="running"))
    refused([first, second, third], "was not finished")
    changed(third, lambda r: r.update(status="part") or r["spec"].update(seed=7, layers=[0]))
    refused(
        [first, second, third], r"layers is \[0, 2\] there and \[0\] here; seed is 0 there and 7"
    )
    changed(third, lambda r: r.update(spec=json.loads((first / "audit.json").read_text())["spec"]))
    changed(third, lambda r: r["part"].update(of=4))
    refused([first, second, third], "parts is 3 there and 4 here")
    changed(third, lambda r: r["part"].update(of=3))
    whole_record = (first / "audit.json").read_text()
    for name in ("model", "plan", "untested", "reasons", "analysis", "shift"):
        changed(first, lambda r, name=name: r.pop(name))
        refused([first, second, third], rf"audit.json is damaged: it has no .*({name}).*Restore")
        (first / "audit.json").write_text(whole_record)
    changed(first, lambda r: r.update(part=None))
    refused([first, second, third], "does not say which part")
    changed(first, lambda r: r.update(json.loads(whole_record), sessions=[{}]))
    refused([first, second, third], "no whole account of its sessions")
    (first / "audit.json").write_text(whole_record)
    kept = (first / "shift" / "documents.parquet").read_bytes()
    (first / "shift" / "documents.parquet").unlink()
    refused([first, second, third], r"part 1 of 3\) lacks files")
    (first / "shift" / "documents.parquet").write_bytes(kept)
    shard = next(p for p in second.rglob("0*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    refused([first, second, third], r"part 2 of 3\) lacks files")
    # and the part's own command makes the damaged shard again
    assert measure("2/3", second).folder == second
    assert tables(merge([first, second, third], out=out).folder) == tables(merged.folder)


def test_a_folder_in_use_is_refused_untouched(parts, whole, tmp_path, measure):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="holds no moeaudit run"):
        merge(parts, out=tmp_path)
    with pytest.raises(RunError, match="is one of the parts"):
        merge(parts, out=parts[0])
    with pytest.raises(RunError, match="holds part 1 of 3 and not part 2 of 3"):
        measure("2/3", parts[0])
    with pytest.raises(RunError, match="holds the whole and not part 1 of 3"):
        measure("1/3", whole.folder)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "1/0"])
def test_a_part_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match="There is no part"):
        read_part(wrong)


@pytest.mark.parametrize("wrong", ["2", "a/b", "1/", "-1/2", "1.5/2"])
def test_a_part_that_cannot_be_read_is_refused(wrong):
    with pytest.raises(InputError, match="write i/n, such as 2/8"):
        read_part(wrong)


def test_more_parts_than_groups_are_refused_and_no_folder_made(measure, tmp_path):
    with pytest.raises(InputError, match="divided into: its documents are measured in 3 groups"):
        measure("4/4", tmp_path / "out")
    with pytest.raises(InputError, match="A part has no option tests"):
        measure("1/2", tmp_path / "out", tests=1)
    assert not (tmp_path / "out").exists()
