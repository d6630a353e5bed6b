"""Signed values with limits, a named row each: names beside the rows, and above them on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import svg

WIDE, BESIDE, ROW = 720, 216, 24
NARROW, ROW_NARROW = 380, 36
TOP = 40


@dataclass(frozen=True)
class Point:
    """A value and its limits (NaN where it has none), its look and what its tip says."""

    value: float
    low: float
    high: float
    css: str
    words: str
    shape: str = "circle"


@dataclass(frozen=True)
class Row:
    """A name with the points of its row, or the reason that it has none."""

    name: str
    points: Sequence[Point]
    reason: str = ""


def signed(
    title: str, rows: Sequence[Row], least: float, ends: tuple[str, str], label: str
) -> Markup:
    """One drawing for wide screens and paper and one for a phone, on an axis that is as long on both sides of zero.

    `least` is the shortest reach of the axis; `ends` are the words below its two ends.
    """
    reach = max(
        [least]
        + [abs(v) for row in rows for p in row.points for v in (p.value, p.low, p.high) if v == v]
    )
    return svg.either(
        _drawn(title, rows, reach, ends, label, narrow=False),
        _drawn(title, rows, reach, ends, label, narrow=True),
    )


def _drawn(title, rows, reach: float, ends, label: str, *, narrow: bool) -> Markup:
    width, row_height = (NARROW, ROW_NARROW) if narrow else (WIDE, ROW)
    start = 16 if narrow else BESIDE + 24
    most = 52 if narrow else 32
    place = svg.linear(-reach, reach, start, width - 20)
    bottom = TOP + row_height * len(rows)
    body = [svg.text(0, 16, title, "title")]
    marks = svg.ticks(-reach, reach, 4 if narrow else 6)
    for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
        kind = "grid" if tick else "zero"
        if not narrow:
            body.append(svg.line(place(tick), TOP - 4, place(tick), bottom, kind))
        for i in range(len(rows) * narrow):  # below each name, which it would cross
            y = TOP + (i + 1) * row_height
            body.append(svg.line(place(tick), y - row_height + 15, place(tick), y, kind))
        body.append(svg.text(place(tick), bottom + 16, words, "tick", "middle"))
    for i, row in enumerate(rows):
        top = TOP + i * row_height
        name = short(row.name, most)
        if narrow:
            body.append(svg.text(0, top + 11, name, "tick"))
        else:
            body.append(svg.text(BESIDE + 10, top + 16, name, "tick", "end"))
        middle = top + (24 if narrow else ROW / 2)
        if not row.points:
            body.append(
                svg.text(start, middle + 4, short(row.reason, 70 if narrow else 90), "tiny")
            )
        for k, point in enumerate(row.points):
            y = middle + 10 * (k - (len(row.points) - 1) / 2)
            if point.low == point.low:
                body.append(svg.line(place(point.low), y, place(point.high), y, f"bar {point.css}"))
            body.append(svg.mark(place(point.value), y, point.shape, point.css, point.words, 4))
    body.append(svg.text(start, bottom + 34, ends[0], "muted"))
    body.append(svg.text(width - 20, bottom + 34, ends[1], "muted", "end"))
    return svg.document(width, bottom + 44, label, body, most=480 if narrow else 760)


def short(text: str, most: int) -> str:
    """A label that fits its place; whole in the table and the tip."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
