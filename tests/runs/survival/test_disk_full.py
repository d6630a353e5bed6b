"""A disk that takes no more: one clear message at whichever file it happens, and finished work kept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made import tiny_run
from made.same import tables

from moeaudit.errors import RunError
from moeaudit.store.files import TEMPORARY, replacing, write_text

ROOT = Path(__file__).parents[3]


@pytest.fixture
def audit_small(small_audit):
    """Two layers of a few tokens, checked by one engine: many audits in little time."""
    return lambda out: small_audit(
        out=out, tokens=6, layers=[0, 2], verify_rows=1, verify_engines=("hooks",)
    )


def test_a_disk_that_is_full_once_at_every_file(audit_small, tmp_path, monkeypatch):
    whole = audit_small(tmp_path / "whole")
    move, refused = Path.replace, set()

    def full_at_first(self, target):
        name = str(Path(target).relative_to(tmp_path / "run"))
        if name not in refused:
            refused.add(name)
            raise OSError(errno.ENOSPC, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", full_at_first)
    for _ in range(60):
        before = len(refused)
        try:
            run = audit_small(tmp_path / "run")
            break
        except RunError as error:
            assert len(refused) == before + 1
            assert (
                "could not be written: no space left on device. What was finished is kept"
                in str(error)
            )
            assert "\n" not in str(error)
            assert not list(tmp_path.rglob(f"{TEMPORARY}*"))
    assert tables(run.folder) == tables(whole.folder)
    files = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    assert files <= refused  # every file of the run was refused once, tokens of groups besides
    assert any(name.startswith(".partial") for name in refused)


LIMITED = """
import resource, sys
from made import tiny_run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
from moeaudit.cli import main
sys.argv = ["moeaudit", "audit", sys.argv[1], "--text", sys.argv[4], "--out", sys.argv[2], "--tokens", "6",
            "--layers", "0", "--verify-rows", "1"]
main()
"""


def test_a_file_that_the_system_refuses_is_one_paragraph_and_status_2(tiny_folder, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number, text in enumerate(tiny_run.TEXTS):
        (texts / f"{number:02d}.txt").write_text(text)
    command = [sys.executable, "-c", LIMITED, tiny_folder, tmp_path / "run", "9000", texts]
    path = os.pathsep.join(["tests", str(ROOT), *sys.path])
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("moeaudit:")]
    assert "could not be written: file too large. What was finished is kept" in message
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not list(tmp_path.rglob(f"{TEMPORARY}*")) and not list(tmp_path.rglob(".lock"))
    assert (tmp_path / "run" / "documents.parquet").is_file()


def test_another_error_of_the_system_is_not_called_a_full_disk(tmp_path):
    write_text(tmp_path / "x", "old")
    with pytest.raises(OSError, match="odd"), replacing(tmp_path / "x"):
        raise OSError(errno.EIO, "odd")
    assert (tmp_path / "x").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
