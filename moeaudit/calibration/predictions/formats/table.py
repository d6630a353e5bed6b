"""What every kind of file becomes: named columns of text or numbers, and what their rows are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """`columns` by name; `place(row)` is what a row, counted from 0, is called in the file ("line 2").

    `remarks` are sentences that a reader must know before the numbers.
    """

    columns: Mapping[str, Any]
    place: Callable[[int], str]
    remarks: tuple[str, ...] = ()


def lines(numbers: list[int]) -> Callable[[int], str]:
    """Rows called by the line of the file in which they begin."""
    return lambda row: f"line {numbers[row]:,}"
