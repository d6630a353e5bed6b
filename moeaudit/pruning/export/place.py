"""New folders that are whole or absent: refused before anything is computed, renamed into place at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moeaudit.errors import RunError
from moeaudit.store.files import TEMPORARY, require_place


def require_new(folder: str | Path, what: str = "") -> Path:
    """The folder, if it does not exist or is empty, and can be written. Raises RunError, touching nothing."""
    if not isinstance(folder, str | Path):
        raise RunError(
            f"A folder is called {folder!r}; a path was expected, such as 'models/small'."
        )
    place = Path(folder)
    require_place(place, what, folder=True)
    if place.is_dir() and (names := sorted(path.name for path in place.iterdir())):
        raise RunError(
            f"{f'{what} {place}'.strip()} is not empty (it has {', '.join(names[:3])}). Nothing was written. Choose "
            "an empty or a new folder."
        )
    return place


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place on success and is removed on failure.

    Raises RunError where the disk takes no more.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{folder.name}-", dir=folder.parent))
    try:
        yield making
        if folder.is_dir():
            folder.rmdir()
        making.chmod(0o755)  # mkdtemp's are for their owner alone, and so are some libraries' files
        for path in making.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        making.rename(folder)
    except OSError as error:
        raise RunError(
            f"{folder} could not be written: {error.strerror or error}. Nothing was left there; make room or choose "
            "another place, and run the same again."
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
