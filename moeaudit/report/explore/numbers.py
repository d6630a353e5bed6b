"""Numbers as the page keeps them: few digits, null for what is not there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def short(value: Any, digits: int = 4) -> float | int | None:
    """`value` to `digits` significant digits; None for NaN and infinity; whole numbers without a point."""
    number = float(value)
    if not math.isfinite(number):
        return None
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def shorts(values: Iterable[Any], digits: int = 4) -> list[float | int | None]:
    return [short(value, digits) for value in values]
