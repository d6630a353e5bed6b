"""What the pages of the lab's analyses share: rows in words, the head of a page, losses by arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from moeaudit.report.figures.figure import Figure
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.sheet import Sheet
from moeaudit.report.pages.tables import rows_of
from moeaudit.report.words.numbers import estimate

Tables = dict[str, pd.DataFrame]


def of(frame: pd.DataFrame, **where: Any) -> dict[str, Any]:
    """The one row with these values."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return rows_of(frame)[0]


def said(row: Mapping[str, Any], value: str, sign: bool = False) -> str:
    """A value with its limits; `sign` for a difference."""
    return estimate(row[value], row[f"{value}_low"], row[f"{value}_high"], sign)


def change(row: Mapping[str, Any], value: str) -> str:
    """A difference with its limits, signed."""
    return said(row, value, True)


def sheet_of(title: str, result: dict[str, Any]) -> Sheet:
    """The head of a page: the answer, further answers, and what a quick run is worth."""
    answer, *further = result.get("sentences") or [result["sentence"]]
    sheet = Sheet(title, answer, result["command"])
    if further:
        sheet.points(further)
    if result["quick"]:
        sheet.paragraph(
            "Models of a dozen steps: this page shows that the machinery runs. Read nothing into it."
        )
    return sheet


def losses(frame: pd.DataFrame, title: str, caption: str) -> Figure:
    """Held-out loss of each arm, `nll` with limits over seeds."""
    long = frame.rename(columns={"nll": "value", "nll_low": "low", "nll_high": "high"})
    return profiles(
        long.assign(panel="held-out loss", series="mean over seeds"),
        key="loss",
        title=title,
        unit="nats a token",
        panel="panel",
        along="arm",
        zero=False,
        caption=caption,
    )
