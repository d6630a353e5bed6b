"""Files that are whole or absent, and one writer a folder.

Every file is written beside its final name and moved into place, so a reader (or a resumed run)
sees the old file, the new file or no file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from moeaudit.errors import RunError

if TYPE_CHECKING:
    from moeaudit.frames import Frame

LOCK = ".lock"
TEMPORARY = ".writing-"


# What the system says where nothing more can be written: full, over quota, over the size allowed, read-only.
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success move it there, on failure remove it.

    Raises RunError where the disk is full or takes no more: what was there before is still there.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise RunError(
            f"{path} could not be written: {os.strerror(error.errno).lower()}. What was finished is kept. Make room "
            "there and run the same command again, which goes on from where it stopped."
        ) from error


def copied(source: Path, path: Path) -> None:
    """Copy a file's bytes atomically. Raises RunError where it cannot be read or written."""
    with replacing(path) as temporary:
        try:
            handle = source.open("rb")
        except OSError as error:
            raise RunError(_unreadable(source, error)) from error
        with handle, temporary.open("wb") as target:
            shutil.copyfileobj(handle, target)


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be read ({error.strerror or error}). Make it readable, or delete it and run the same command "
        "again, which recomputes what is missing."
    )


def require_place(path: Path, what: str = "", *, folder: bool) -> None:
    """Raise RunError unless a folder (or a file) can be written at `path`. It is tried, and nothing stays.

    `what` names the option or argument that gave the path.
    """
    said = f"{what} {path}".strip()
    try:
        if folder and path.is_file():
            raise RunError(
                f"{said} is a file; a folder is needed, which is made if it is not there."
            )
        if not folder and path.is_dir():
            raise RunError(
                f"{said} is a folder; a file's name is needed, such as one inside of it."
            )
        place = path if folder else path.parent
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise RunError(
                f"{said} cannot be written: {place} is a file and no folder. Choose another place."
            )
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=place) as trial:
            for part in path.relative_to(place).parts if path != place else ():
                (Path(trial) / part).mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RunError(f"{said} cannot be written: {why}. Choose another place.") from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused rather than written."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex. Raises RunError for a file that cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RunError(_unreadable(path, error)) from error


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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one writer. The lock goes with the process, however it ends.

    A folder that was made here and holds nothing after a failure is taken back. Raises RunError if
    another process, or another thread, holds the folder.
    """
    made = not folder.exists()
    with _held(folder):
        for left_over in folder.rglob(f"{TEMPORARY}*"):
            left_over.unlink(missing_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file
                (folder / LOCK).unlink()
                if made and not any(folder.iterdir()):
                    folder.rmdir()


def _held(folder: Path) -> IO[str]:
    """The lock file, locked, and surely the one that is in the folder.

    Its last holder removes it. A process that had opened it before would then hold a file that
    nobody else finds, and another would make a new one and write as well: so look again.
    """
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError), ExitStack() as stack:
            handle = stack.enter_context(path.open("a"))
            _lock(handle, folder)
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                stack.pop_all()  # stays open, and so locked, until the caller closes it
                return handle


def _lock(handle: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: no advisory lock; two writers there are the user's to avoid
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(
            f"Another process is writing to {folder}. Wait for it to end, or choose another folder."
        ) from None
