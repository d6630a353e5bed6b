"""What can be refused before a model is loaded: places that cannot be read or written."""

from __future__ import annotations

from pathlib import Path

from moeaudit.errors import InputError
from moeaudit.store.files import require_place


def readable(path: Path | str | None, option: str) -> None:
    """Raise InputError unless there is a file or a folder at `path`; None asks for nothing."""
    if path is None:
        return
    try:
        there = Path(path).exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise InputError(
            f"{option} {str(path)!r}: there is no such file or folder. Give a folder of text files, a text file "
            "or a .jsonl file."
        )


def writable(path: Path | None, option: str, *, folder: bool) -> None:
    """Raise RunError unless a folder, or a file, can be written at `path`; None asks for nothing."""
    if path is not None:
        require_place(path, option, folder=folder)


def at_least(value: int | None, least: int, option: str, why: str = "") -> None:
    """Raise InputError for a number below `least`."""
    if value is not None and value < least:
        raise InputError(f"{option} is {value}; {least} or more is needed{why}.")


def listed(text: str, option: str) -> list[str]:
    """Words separated by commas. Raises InputError where there is none."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(
            f"{option} {text!r} names nothing. Give one word or several, separated by commas."
        )
    return words
