"""Small multiples of a quantity by layer with its limits: one panel a model, one line a series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame

from ..pages.tables import Column, Row, folded, rows_of, table
from ..words.numbers import estimate
from . import svg
from .figure import Figure

WIDTH, LEFT, TOP, HEIGHT, GAP = 980, 56, 44, 230, 54
# Told apart by mark and by shade; the style sheet colours them for light, dark and print.
LOOKS = [
    ("circle", "v-pred"), ("square", "v-rev"), ("diamond", "v-eq"), ("up", "c-gate_weight"),
    ("down", "c-heldout_causal"), ("circle", "v-open"), ("square", "control"),
]  # fmt: skip


def profiles(
    frame: Frame,
    *,
    key: str,
    title: str,
    caption: str | Markup,
    value: str = "value",
    unit: str = "nats",
    panel: str = "model",
    series: str = "series",
    along: str = "layer",
    order: Sequence[str] | None = None,
    zero: bool = True,
) -> Figure:
    """A figure of `frame`, one row for each (panel, series, along) with `low` and `high` limits.

    Missing values leave a gap, and the table says why if the frame has a column `reason`.
    """
    names = list(order) if order is not None else list(dict.fromkeys(frame[series]))
    panels = list(dict.fromkeys(frame[panel]))
    rows = rows_of(frame)
    finite: list[float] = [0.0] if zero else []
    finite += [float(r[c]) for r in rows for c in (value, "low", "high") if not _missing(r.get(c))]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.06 * ((high - low) or 1.0)
    across = max(1, len(panels))
    side = (WIDTH - LEFT - 14 - GAP * (across - 1)) / across
    bottom = TOP + HEIGHT
    rise = svg.linear(low - margin, high + margin, bottom, TOP)
    body: list[str] = []
    for i, name in enumerate(panels):
        mine = [r for r in rows if r[panel] == name]
        _panel(body, name, mine, names, LEFT + i * (side + GAP), side, rise,
               (low, high), value, series, along)  # fmt: skip
    body.append(svg.text(LEFT - 50, 14, unit, "muted"))
    at, down = float(LEFT), bottom + 56
    for i, name in enumerate(names):
        shape, css = LOOKS[i % len(LOOKS)]
        wide = 26 + 6.6 * len(name)
        if at + wide > WIDTH and at > LEFT:
            at, down = float(LEFT), down + 20
        body += [svg.mark(at, down, shape, css, "", 4), svg.text(at + 10, down + 4, name, "tick")]
        at += wide
    columns = [
        Column(panel, lambda r: r[panel], text=True),
        Column(series, lambda r: r[series], text=True),
        Column(along, lambda r: r[along]),
        Column(f"{value} ({unit})" if unit else value, lambda r: _written(r, value)),
    ]
    if "reason" in frame:
        columns.append(Column("not estimable because", lambda r: r["reason"] or "", text=True))
    numbers = folded("The numbers", table(rows, columns, title))
    drawing = svg.document(WIDTH, down + 16, title, body, 640)
    return Figure(key, title, Markup("{}").format(caption), drawing, numbers)


def _panel(
    body: list[str],
    name: str,
    rows: list[dict[str, Any]],
    names: list[str],
    left: float,
    side: float,
    rise: svg.Scale,
    span: tuple[float, float],
    value: str,
    series: str,
    along: str,
) -> None:
    places = sorted({r[along] for r in rows})
    step = svg.linear(-0.5, len(places) - 0.5, left, left + side)
    at = {place: i for i, place in enumerate(places)}
    body.append(svg.text(left, 30, name, "label"))
    marks = svg.ticks(*span, about=5)
    for tick, words in zip(marks, svg.tick_texts(marks)):
        body.append(svg.line(left, rise(tick), left + side, rise(tick), "grid" if tick else "zero"))
        body.append(svg.text(left - 6, rise(tick) + 4, words, "tick", "end"))
    for place in places:
        body.append(svg.text(step(at[place]), TOP + HEIGHT + 18, place, "tick", "middle"))
    body.append(svg.text(left + side / 2, TOP + HEIGHT + 35, along, "muted", "middle"))
    slot = (side / max(1, len(places))) * 0.7 / max(1, len(names))
    for i, each in enumerate(names):
        shape, css = LOOKS[i % len(LOOKS)]
        for row in rows:
            if row[series] != each or _missing(row[value]):
                continue
            x = step(at[row[along]]) + (i - (len(names) - 1) / 2) * slot
            if not _missing(row.get("low")) and not _missing(row.get("high")):
                body.append(svg.line(x, rise(row["low"]), x, rise(row["high"]), f"bar {css}"))
            words = f"{name}, {each}, {along} {row[along]}: {_written(row, value)}"
            body.append(svg.mark(x, rise(row[value]), shape, css, words, 3.2))


def _missing(number: object) -> bool:
    return number is None or (isinstance(number, float) and math.isnan(number))


def _written(row: Row, value: str) -> str:
    if _missing(row[value]):
        return "\N{EN DASH}"
    if _missing(row.get("low")) or _missing(row.get("high")):
        return f"{row[value]:.4g}"
    return estimate(row[value], row["low"], row["high"])
