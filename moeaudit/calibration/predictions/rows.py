"""Errors that stand in one row of a table, told by array index or by line of the file it came from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moeaudit.errors import InputError

_LONG = 40  # characters of a value that a message shows


class RowError(InputError):
    """A value that cannot be used. `row` counts from 0; `at` says the same of a file's own numbers."""

    def __init__(self, before: str, row: int, after: str, place: str | None = None) -> None:
        self.before, self.row, self.after = before, row, after
        super().__init__(f"{before}{place or f'row {row:,}'}{after}")

    def at(self, place: Callable[[int], str]) -> RowError:
        """The same error with the row called as `place` calls it ("line 3")."""
        return RowError(self.before, self.row, self.after, place(self.row))


def first(bad: np.ndarray) -> int:
    """The first row in which anything is bad."""
    return int(np.argwhere(bad)[0][0])


def shown(value: object) -> str:
    """A value as messages show it: quoted if it is text, cut if it is long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 4]} ..."
