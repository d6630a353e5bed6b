"""Files of a run that were changed, lost or cannot be read: found by their digests, and made again."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
from made import tiny_run
from made.same import tables
from made.without_page import without_page

from moeaudit.errors import RunError
from moeaudit.front import audit
from moeaudit.store.files import locked

pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture(scope="module")
def options(tiny_model, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("poems", "laws"):
        (other / name).mkdir()
        for number in range(2):
            text = f"{name} {number}: section {number * 7} of the {name} says so."
            (other / name / f"{number}.txt").write_text(text)
    how = {"tokens": 8, "layers": [0, 2], "verify_rows": 1, "verify_engines": ("hooks",)}
    return {"model": tiny_model, "docs": tiny_run.TEXTS, "shift": other, **how}


@pytest.fixture(scope="module")
def whole(options, tmp_path_factory):
    with without_page():
        return audit(**options, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole.folder, tmp_path / "run"))


def flip(path: Path) -> None:
    """Change one byte in the middle; size and time of the file stay plausible."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_record_has_a_digest_of_every_table_that_is_no_shard(whole):
    single = {name for name in tables(whole.folder) if not name.split("/")[-1][0].isdigit()}
    assert set(whole.record["files"]) == single
    assert {n: whole.record["files"][n] for n in single} == {
        n: d for n, d in tables(whole.folder).items() if n in single
    }


def test_one_changed_byte_in_every_file_is_found_and_made_good(whole, options, copy):
    for name in tables(copy):
        flip(copy / name)
    run = audit(**options, out=copy)
    assert tables(copy) == tables(whole.folder)
    for name in whole.record["files"]:
        if "documents" not in name:
            assert any(note.startswith(f"{name} was not what") for note in run.record["notes"])


def test_lost_tests_are_made_again_with_whom_they_support(whole, options, copy, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("effects were measured again")

    monkeypatch.setattr("moeaudit.causal.ablate", never)
    (copy / "tests.parquet").unlink()
    (copy / "tokens.parquet").unlink()
    (copy / "routing" / "00001.parquet").unlink()
    run = audit(**options, out=copy)
    assert tables(copy) == tables(whole.folder)
    # what a table by domain says is written into the tests: that stage had to be done again
    stages = run.record["stages"]
    assert stages["domains"]["seconds"] > whole.record["stages"]["domains"]["seconds"]


def test_a_shard_that_cannot_be_read_is_named(whole, options, copy, monkeypatch):
    bad, real = copy / "effects" / "00000.parquet", Path.open

    def broken(self, *args, **kwargs):
        if self == bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, *args, **kwargs)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", broken)
        with pytest.raises(RunError, match=r"00000.parquet cannot be read \(Input/output error\)"):
            audit(**options, out=copy)
    assert tables(copy) == tables(whole.folder)


def test_a_run_from_before_digests_is_left_as_it_is(whole, options, copy):
    record = json.loads((copy / "audit.json").read_text())
    del record["files"]
    (copy / "audit.json").write_text(json.dumps(record))
    assert audit(**options, out=copy).record == record
    (copy / "tests.parquet").unlink()
    audit(**options, out=copy)
    assert tables(copy) == tables(whole.folder)


def test_a_second_process_is_refused_and_changes_nothing(whole, options, copy):
    (copy / "tests.parquet").unlink()  # there is something to do
    before = (copy / "audit.json").read_bytes()
    with locked(copy), pytest.raises(RunError, match="Another process is writing to"):
        audit(**options, out=copy)
    assert (copy / "audit.json").read_bytes() == before
    assert not (copy / "tests.parquet").exists()
