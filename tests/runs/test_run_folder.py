"""The run folder: atomic writes, shards, and what it refuses to touch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pandas as pd
import pytest
from test_run_spec import SPEC

from moeaudit.errors import RunError
from moeaudit.runs.working.folder import FORMAT, claim, read_record
from moeaudit.store.files import locked, read_table, replacing, write_json, write_table, write_text
from moeaudit.store.shards import Shards

FRAME = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_json_with_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_equal_tables_have_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write_table(tmp_path / name, FRAME)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    pd.testing.assert_frame_equal(read_table(tmp_path / "one"), FRAME)


def test_a_damaged_table_is_an_error_that_says_what_to_do(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(RunError, match="delete it and run the same audit command again"):
        read_table(path)
    with pytest.raises(RunError, match="is missing"):
        read_table(tmp_path / "absent.parquet")


def test_a_shard_counts_only_with_its_manifest_entry_and_its_bytes(tmp_path):
    shards = Shards(tmp_path / "effects")
    assert not shards.whole
    shards.write(1, FRAME)
    shards.write(0, FRAME.head(1))
    assert shards.rows == 4
    assert Shards(tmp_path / "effects").read()["a"].tolist() == [1, 1, 2, 3]
    (tmp_path / "effects" / "00001.parquet").write_bytes(b"cut")
    again = Shards(tmp_path / "effects")
    assert again.has(0)
    assert not again.has(1)
    assert not again.whole
    # written, but the process died before the manifest
    write_table(tmp_path / "effects" / "00002.parquet", FRAME)
    assert not Shards(tmp_path / "effects").has(2)


def test_no_shard_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no finished shard"):
        Shards(tmp_path / "none").read()


def test_a_new_or_empty_folder_may_be_used(tmp_path):
    assert claim(tmp_path / "new", SPEC) is None
    assert claim(tmp_path, SPEC) is None
    (tmp_path / ".lock").touch()  # left by a process that was killed before it wrote anything
    assert claim(tmp_path, SPEC) is None


def test_a_folder_with_anything_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"holds no moeaudit run \(it has thesis.tex\)"):
        claim(tmp_path, SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="is a file"):
        claim(tmp_path / "thesis.tex", SPEC)


def test_another_question_is_refused_naming_the_field_and_both_values(tmp_path):
    begun = {"spec_hash": SPEC.hash, "status": "running", "sessions": [], "stages": {}, "notes": []}
    write_json(tmp_path / "audit.json", {"format": FORMAT, "spec": SPEC.to_dict(), **begun})
    assert claim(tmp_path, SPEC) is not None
    other = dataclasses.replace(SPEC, layers=(0,), seed=7)
    with pytest.raises(RunError) as caught:
        claim(tmp_path, other)
    message = str(caught.value)
    assert "layers is [0, 1] there and [0] here" in message
    assert "seed is 0 there and 7 here" in message
    assert "max_length" not in message


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format": "other/9"})])
def test_a_record_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(RunError):
        read_record(tmp_path)
    with pytest.raises(RunError, match="not a run folder"):
        read_record(tmp_path / "nowhere")


def test_two_writers_cannot_share_a_folder(tmp_path):
    code = (
        "import sys; from pathlib import Path; from moeaudit.store.files import locked\n"
        "from moeaudit.errors import RunError\n"
        "try:\n"
        "    with locked(Path(sys.argv[1])): print('in')\n"
        "except RunError as error: print(error)\n"
    )
    with locked(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert "Another process is writing" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "in"
