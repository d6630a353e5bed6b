"""The run folder: what may be written where, and how nothing is ever half-written.

Every file is written beside its final name and moved into place, so a reader (or a resumed run)
sees the old file, the new file or no file. `audit.json` marks a folder as ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError

from .spec import AuditSpec

if TYPE_CHECKING:
    from moeaudit.frames import Frame

FORMAT = "moeaudit-run/1"
RECORD = "audit.json"
LOCK = ".lock"
_TEMPORARY = ".writing-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success move it there, on failure remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused rather than written."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, frame: Frame) -> None:
    """Write a table as Parquet atomically. The same frame gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path, columns: list[str] | None = None) -> Frame:
    """Read a Parquet table of a run. Raises RunError if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns).to_pandas()
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing. A finished run has it: run the same audit command again to "
            "complete the folder."
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise RunError(
            f"{path} cannot be read as Parquet ({error}). The file is damaged: delete it and run "
            "the same audit command again, which recomputes only what is missing."
        ) from error


def read_record(folder: Path) -> dict[str, Any]:
    """The content of a run folder's audit.json. Raises RunError if it is not one."""
    path = folder / RECORD
    if not folder.is_dir() or not path.is_file():
        raise RunError(
            f"{folder} is not a run folder: it has no {RECORD}. Give the folder that "
            "`moeaudit audit` wrote with --out."
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). The run folder is damaged; run the audit into a "
            "new folder."
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(
            f"{path} is not the record of a moeaudit run in the format {FORMAT}. Give a folder "
            "that this version of moeaudit wrote, or choose a new one."
        )
    return record


def claim(folder: Path, spec: AuditSpec) -> dict[str, Any] | None:
    """Check that `folder` may hold a run of `spec`: return its record, or None if it is new.

    Raises RunError, touching nothing, if the folder holds anything else or another question.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; --out needs a folder. Choose another name.")
    if not folder.exists() or not (names := _content(folder)):
        return None
    if RECORD not in names:
        some = ", ".join(names[:3])
        raise RunError(
            f"{folder} is not empty and holds no moeaudit run (it has {some}). Nothing was "
            "written. Choose an empty or a new folder with --out."
        )
    record = read_record(folder)
    different = AuditSpec.from_dict(record["spec"]).differences(spec)
    if different:
        what = "; ".join(f"{key} is {old!r} there and {new!r} here" for key, old, new in different)
        raise RunError(
            f"{folder} holds the answer to another question: {what}. Nothing was written. Ask the "
            "same question to resume it, or choose another folder with --out."
        )
    return record


def _content(folder: Path) -> list[str]:
    """Names in the folder, less what a killed process may leave."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name != LOCK and not name.startswith(_TEMPORARY)]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one writer. The lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with path.open("a") as handle:
        _lock(handle, folder)
        for left_over in folder.rglob(f"{_TEMPORARY}*"):
            left_over.unlink(missing_ok=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(handle: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: no advisory lock; two writers there are the user's to avoid
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(
            f"Another process is writing to {folder}. Wait for it to end, or choose another "
            "folder with --out."
        ) from None
