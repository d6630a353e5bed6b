"""The version, and which files stand behind it, so that every room may know both."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

__version__ = "0.1.0"


@cache
def digest(room: str) -> str:
    """The first 12 digits of the SHA-256 of a room's files: what of one version was changed in between."""
    found = hashlib.sha256()
    place = Path(__file__).parent / room
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            found.update(f"{path.relative_to(place).as_posix()}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:12]
