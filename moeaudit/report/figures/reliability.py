"""Figures of calibration: accuracy beside confidence, and the signed gap of every stratum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame

from ..pages.tables import Column, folded, number, rows_of, table
from ..words.numbers import count, estimate, fixed, percent
from . import svg
from .figure import Figure
from .parts.signed import Point, Row, short, signed

SIDE, LEFT, TOP = 262, 46, 40
PER_ROW, MOST_PANELS = 3, 12  # PER_ROW: of the figure in a notebook


def reliability_figure(bins: Frame, scores: Frame, level: float = 0.95, of: str = "") -> Figure:
    """Small multiples, one panel a stratum: all first, then those with the largest gaps; `of` says whose, where a
    page has several."""
    order = _panels(scores, list(dict.fromkeys(zip(bins["whole"], bins["stratum"]))))
    shown = order[:MOST_PANELS]
    drawn = []
    for whole, name in shown:
        rows = rows_of(bins[(bins["whole"] == whole) & (bins["stratum"] == name)])
        body: list[str] = []
        _panel(body, _name(rows[0]), rows, LEFT, TOP - 16)
        label = f"Reliability{_of(of)}: {_name(rows[0])}"
        drawn.append(svg.document(LEFT + SIDE + 12, TOP + SIDE + 20, label, body, most=480))
    left = f" The other {len(order) - len(shown)} strata are in the table." * (order != shown)
    caption = Markup(
        "Accuracy against mean confidence, in bins of equal mass. On the diagonal confidence is "
        "what it claims; below it the model is over-confident (orange), above it under-confident (blue), hollow "
        "where the {} limits of the bin's gap, by document bootstrap, include 0. The grey band holds all "
        "bins of a calibrated model with independent outcomes at once in {} of samples. "
        "Larger points hold more of the weight.{}"
    ).format(percent(level, 0), percent(level, 0), left)
    drawing = svg.panels(drawn)
    numbers = _bin_table(bins, level, of)
    return Figure("reliability", "Is confidence earned?", caption, drawing, numbers)


def gaps_figure(scores: Frame, level: float = 0.95, of: str = "") -> Figure:
    """The signed gap of every stratum, with limits; `of` says whose, where a page has several."""
    gaps = rows_of(scores[scores["score"] == "gap"])
    rows = [
        Row(_name(r), [] if missing(r["value"]) else [_point(r)], str(r["reason"] or ""))
        for r in gaps
    ]
    caption = Markup(
        "The signed gap of each stratum with its {} limits by document bootstrap. An unsigned score "
        "cannot tell a model that claims too much from one that claims too little, and gaps of opposite sign "
        "cancel in the whole."
    ).format(percent(level, 0))
    drawing = signed(
        "Confidence \N{MINUS SIGN} accuracy",
        rows,
        0.01,
        ("under-confident", "over-confident"),
        f"Signed gap by stratum{_of(of)}",
    )
    columns = [
        Column("stratum", _name, text=True),
        Column(
            "confidence \N{MINUS SIGN} accuracy",
            _estimate,
            value=lambda r: r["value"],
            ends=lambda r: (r["low"], r["high"]),
        ),
        number("predictions", lambda r: count(r["n"]), "n"),
        number("documents", lambda r: count(r["documents"]), "documents"),
        Column("not estimable because", lambda r: r["reason"] or "", text=True),
    ]
    words = f"Signed gap with {percent(level, 0)} limits{_of(of)}"
    return Figure("gaps", "Which way is it wrong?", caption, drawing, table(gaps, columns, words))


def _point(row: Mapping[str, Any]) -> Point:
    low, high = (math.nan if missing(row[k]) else float(row[k]) for k in ("low", "high"))
    css = _css(row["value"], row["low"], row["high"])
    return Point(float(row["value"]), low, high, css, f"{_name(row)}: {_estimate(row)}")


def _of(of: str) -> str:
    return f": {of}" if of else ""


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
    body.append(svg.text(x, y - 10, short(name, 36), "label"))
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


def _bin_table(bins: Frame, level: float, of: str) -> Markup:
    columns = [
        Column("stratum", _name, text=True),
        number("confidence from", lambda r: fixed(r["start"], 3), "start"),
        number("to", lambda r: fixed(r["end"], 3), "end"),
        number("mean", lambda r: fixed(r["confidence"], 3), "confidence"),
        number("accuracy", lambda r: fixed(r["accuracy"], 3), "accuracy"),
        number("gap", lambda r: _estimate(r, "gap"), "gap", limits=True),
        number("share of weight", lambda r: percent(r["share"]), "share"),
        number("predictions", lambda r: count(r["n"]), "n"),
        number("documents", lambda r: count(r["documents"]), "documents"),
        Column("remark", lambda r: r["reason"] or "", text=True),
    ]
    words = f"Reliability by bin of equal mass; gap with {percent(level, 0)} limits{_of(of)}"
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
