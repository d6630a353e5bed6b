"""Figures of calibration: accuracy beside confidence, and the signed gap of every stratum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame

from ..pages.tables import Column, folded, rows_of, table
from ..words.numbers import count, estimate, fixed, percent
from . import svg
from .figure import Figure

WIDTH, SIDE, LEFT, TOP = 980, 262, 46, 40
PER_ROW, MOST_PANELS = 3, 12  # PER_ROW: of the figure in a notebook
ROW = 24


def reliability_figure(bins: Frame, scores: Frame, level: float = 0.95) -> Figure:
    """Small multiples, one panel a stratum: all first, then those with the largest gaps."""
    order = _panels(scores, list(dict.fromkeys(zip(bins["whole"], bins["stratum"]))))
    shown = order[:MOST_PANELS]
    drawn = []
    for whole, name in shown:
        rows = rows_of(bins[(bins["whole"] == whole) & (bins["stratum"] == name)])
        body: list[str] = []
        _panel(body, _name(rows[0]), rows, LEFT, TOP - 16)
        label = f"Reliability: {_name(rows[0])}"
        drawn.append(svg.document(LEFT + SIDE + 12, TOP + SIDE + 20, label, body))
    left = f" The other {len(order) - len(shown)} strata are in the table." * (order != shown)
    caption = Markup(
        "Accuracy against mean confidence, in bins of equal mass. On the diagonal confidence is "
        "what it claims; below it the model is over-confident (orange), above it under-confident (blue), hollow "
        "where the {} limits of the bin's gap, by document bootstrap, include 0. The grey band holds all "
        "bins of a calibrated model with independent outcomes at once in {} of samples. "
        "Larger points hold more of the weight.{}"
    ).format(percent(level, 0), percent(level, 0), left)
    drawing = svg.panels(drawn)
    return Figure("reliability", "Is confidence earned?", caption, drawing, _bin_table(bins, level))


def gaps_figure(scores: Frame, level: float = 0.95) -> Figure:
    """The signed gap of every stratum, with limits."""
    gaps = rows_of(scores[scores["score"] == "gap"])
    known = [r for r in gaps if not missing(r["value"])]
    reach = max(
        [0.01, *(abs(r[k]) for r in known for k in ("value", "low", "high") if not missing(r[k]))]
    )
    place = svg.linear(-reach, reach, 240, WIDTH - 30)
    bottom = TOP + ROW * len(gaps)
    body = [svg.text(0, 16, "Confidence \N{MINUS SIGN} accuracy", "title")]
    marks = svg.ticks(-reach, reach, 6)
    for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
        body.append(svg.line(place(tick), TOP - 4, place(tick), bottom, "grid" if tick else "zero"))
        body.append(svg.text(place(tick), bottom + 16, words, "tick", "middle"))
    for i, row in enumerate(gaps):
        y = TOP + (i + 0.5) * ROW
        body.append(svg.text(230, y + 4, _short(_name(row), 34), "tick", "end"))
        if missing(row["value"]):
            body.append(svg.text(240, y + 4, str(row["reason"]), "tiny"))
            continue
        css = _css(row["value"], row["low"], row["high"])
        if not missing(row["low"]):
            body.append(svg.line(place(row["low"]), y, place(row["high"]), y, f"bar {css}"))
        words = f"{_name(row)}: {_estimate(row)}"
        body.append(svg.mark(place(row["value"]), y, "circle", css, words, 4))
    body.append(svg.text(240, bottom + 34, "under-confident", "muted"))
    body.append(svg.text(WIDTH - 30, bottom + 34, "over-confident", "muted", "end"))
    caption = Markup(
        "The signed gap of each stratum with its {} limits by document bootstrap. An unsigned score "
        "cannot tell a model that claims too much from one that claims too little, and gaps of opposite sign "
        "cancel in the whole."
    ).format(percent(level, 0))
    drawing = svg.document(WIDTH, bottom + 44, "Signed gap by stratum", body, 640)
    columns = [
        Column("stratum", _name, text=True),
        Column("confidence \N{MINUS SIGN} accuracy", _estimate),
        Column("predictions", lambda r: count(r["n"])),
        Column("documents", lambda r: count(r["documents"])),
        Column("not estimable because", lambda r: r["reason"] or "", text=True),
    ]
    words = f"Signed gap with {percent(level, 0)} limits"
    return Figure("gaps", "Which way is it wrong?", caption, drawing, table(gaps, columns, words))


def _panels(scores: Frame, names: list[tuple[bool, str]]) -> list[tuple[bool, str]]:
    """The whole, then strata by size of gap; a panel is (whole, stratum)."""
    gaps = rows_of(scores[scores["score"] == "gap"])
    value = {(r["whole"], r["stratum"]): r["value"] for r in gaps}
    size = {name: 0.0 if missing(value[name]) else abs(float(value[name])) for name in names}
    return sorted(names, key=lambda name: (not name[0], -size[name], name[1]))


def _name(row: Mapping[str, Any]) -> str:
    """What a stratum is called for the reader; a group may be called `all`."""
    return "all predictions" if row["whole"] else str(row["stratum"])


def _panel(
    body: list[str], name: str, rows: list[dict[str, Any]], x: svg.Number, y: svg.Number
) -> None:
    across, up = svg.linear(0, 1, x, x + SIDE), svg.linear(0, 1, y + SIDE, y)
    body.append(svg.text(x, y - 10, _short(name, 36), "label"))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        body.append(svg.line(across(tick), y, across(tick), y + SIDE, "grid"))
        body.append(svg.line(x, up(tick), x + SIDE, up(tick), "grid"))
        body.append(svg.text(across(tick), y + SIDE + 15, f"{tick:g}", "tick", "middle"))
        body.append(svg.text(x - 6, up(tick) + 4, f"{tick:g}", "tick", "end"))
    banded = [r for r in rows if not missing(r["band_low"])]
    if len(banded) > 1:
        upper = [(across(r["confidence"]), up(r["band_high"])) for r in banded]
        lower = [(across(r["confidence"]), up(r["band_low"])) for r in reversed(banded)]
        body.append(svg.path(upper + lower, "band", closed=True))
    body.append(svg.line(across(0), up(0), across(1), up(1), "zero"))
    for r in rows:
        if missing(r["accuracy"]):
            continue
        css = _css(r["gap"], r["gap_low"], r["gap_high"])
        if not missing(r["gap_low"]):
            ends = [min(1.0, max(0.0, r["confidence"] - r[k])) for k in ("gap_high", "gap_low")]
            place = across(r["confidence"])
            body.append(svg.line(place, up(ends[0]), place, up(ends[1]), f"bar {css}"))
        words = (
            f"{name}, confidence {fixed(r['confidence'], 3)}: accuracy {fixed(r['accuracy'], 3)}, "
            f"{count(r['n'])} predictions"
        )
        size = 2.2 + 6 * math.sqrt(r["share"])
        body.append(
            svg.mark(across(r["confidence"]), up(r["accuracy"]), "circle", css, words, size)
        )
    body.append(svg.text(x + SIDE / 2, y + SIDE + 31, "confidence", "tick", "middle"))
    body.append(svg.text(x + 5, y + 14, "accuracy", "tick"))


def _css(gap: svg.Number, low: Any, high: Any) -> str:
    """Orange for over-confident, blue for under-confident, hollow where the sign is open."""
    if missing(low) or low <= 0 <= high:
        return "v-open"
    return "v-pred" if gap > 0 else "v-rev"


def _bin_table(bins: Frame, level: float) -> Markup:
    columns = [
        Column("stratum", _name, text=True),
        Column("confidence from", lambda r: fixed(r["start"], 3)),
        Column("to", lambda r: fixed(r["end"], 3)),
        Column("mean", lambda r: fixed(r["confidence"], 3)),
        Column("accuracy", lambda r: fixed(r["accuracy"], 3)),
        Column("gap", lambda r: _estimate(r, "gap")),
        Column("share of weight", lambda r: percent(r["share"])),
        Column("predictions", lambda r: count(r["n"])),
        Column("documents", lambda r: count(r["documents"])),
        Column("remark", lambda r: r["reason"] or "", text=True),
    ]
    words = f"Reliability by bin of equal mass; gap with {percent(level, 0)} limits"
    return folded("The numbers of the figure", table(rows_of(bins), columns, words))


def _estimate(row: Mapping[str, Any], name: str = "") -> str:
    value, ends = (row["gap"], ("gap_low", "gap_high")) if name else (row["value"], ("low", "high"))
    if missing(value):
        return "\N{EN DASH}"
    low, high = (math.nan if missing(row[k]) else row[k] for k in ends)
    return estimate(value, low, high)


def missing(value: Any) -> bool:
    """Whether a table's entry is null, in any of the ways pandas writes it."""
    import pandas as pd

    return value is None or value is pd.NA or bool(value != value)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
