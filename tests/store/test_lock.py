"""One writer a folder, whatever the others are in the middle of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moeaudit.errors import RunError
from moeaudit.store.files import LOCK, locked

# Takes the lock, but stops between opening the lock file and locking it, as a slow process may.
SLOW = """
import sys
from pathlib import Path
import moeaudit.store.files as files

lock = files._lock
def slow(handle, folder):
    files._lock = lock  # at the first try only
    print("open", flush=True)
    sys.stdin.readline()
    lock(handle, folder)
files._lock = slow
with files.locked(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.readline()
"""


def slow_process(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    return process


def go_on(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_a_process_that_waited_at_the_lock_file_and_a_later_one_never_both_write(tmp_path):
    with locked(tmp_path):
        waiting = slow_process(tmp_path)  # has opened the lock file of this writer
    try:
        assert go_on(waiting) == "in\n"
        with pytest.raises(RunError, match="Another process is writing"), locked(tmp_path):
            pass
    finally:
        waiting.communicate("\n", timeout=60)
    with locked(tmp_path):  # and afterwards the folder is free
        pass
    assert not list(tmp_path.iterdir())  # the lock file goes with its holder


def test_a_lock_file_that_was_removed_meanwhile_locks_nothing(tmp_path):
    folder = tmp_path / "new"
    waiting = None
    with pytest.raises(ZeroDivisionError), locked(folder):
        waiting = slow_process(folder)
        raise ZeroDivisionError  # takes back the folder it made, lock file and all
    assert waiting is not None and not folder.exists()
    try:
        assert go_on(waiting) == "in\n"  # in a folder, and at a lock file, of its own
        assert (folder / LOCK).exists()  # and a third finds it
        with pytest.raises(RunError, match="Another process is writing"), locked(folder):
            pass
    finally:
        waiting.communicate("\n", timeout=60)


def test_a_folder_that_was_there_or_holds_something_is_not_taken_back(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert tmp_path.exists()
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "new"):
        (tmp_path / "new" / "result.txt").touch()
        raise ZeroDivisionError
    assert (tmp_path / "new" / "result.txt").exists()
