"""The largest of many, and what is an estimate though it sounds like a bound: never said without a word.

The largest number of a table is picked for its luck as well; beside it stands what the largest, picked in
one half of the documents, shows in the other. A ceiling and an oracle have intervals, and may be exceeded.
"""

from __future__ import annotations

import math
from typing import Any

from moeaudit.frames import Frame

from .numbers import estimate, fixed, interval

HELD_OUT = "picked in one half of the documents and read in the other, the largest is"


def held_out(row: Any) -> str:
    """What goes behind the largest of a family; empty for a table that does not have it."""
    text = of_family(row)
    return f"; {HELD_OUT} {text}" if text else ""


def of_family(row: Any) -> str:
    """The number alone."""
    return _sized(row, "largest_held_out")


def of_metric(row: Any) -> str:
    """The same among the layers of one metric."""
    return _sized(row, "metric_largest_held_out")


def _sized(row: Any, column: str) -> str:
    """With the sign of the row's own size: a held-out value is positive where the halves agree."""
    value = float(row.get(column, math.nan))
    if math.isnan(value):
        return ""
    own = next((float(row[c]) for c in ("d_z", "rho") if c in row and _known(row[c])), 1.0)
    return fixed(math.copysign(1.0, own) * value, 2, True)


def _known(value: Any) -> bool:
    return not math.isnan(float(value))


def ceiling(row: Any) -> str:
    """The ceiling of a rank correlation with its limits, and a word where the correlation is above it."""
    value = float(row["ceiling"])
    low, high = (float(row.get(f"ceiling_{end}", math.nan)) for end in ("low", "high"))
    text = f"{fixed(value, 2)}"
    if not math.isnan(low):
        text += f" {interval(low, high, 2, sign=False)}"
    return f"{text}, which this estimate exceeds" if exceeded(row) else text


def exceeded(row: Any) -> bool:
    """Whether a correlation is larger than the estimate of its ceiling."""
    return _known(row["rho"]) and abs(float(row["rho"])) > float(row["ceiling"])


def with_limits(rows: Frame) -> str:
    """The smallest and the largest d_z of an estimate over layers, each with its interval."""
    known = rows[rows["d_z"].notna()]
    ends = [known.loc[known["d_z"].idxmin()], known.loc[known["d_z"].idxmax()]]
    texts = [estimate(float(r["d_z"]), float(r["low"]), float(r["high"])) for r in ends]
    return texts[0] if len(known) == 1 else f"{texts[0]} to {texts[1]}"
