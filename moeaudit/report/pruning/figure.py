"""Figure: what each criterion's cut costs, share by share, beside random choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..figures import svg
from ..figures.figure import Figure
from ..words.numbers import estimate, percent
from .words import DEPTHS, SCOPES, criterion_name, kept_share, luck, rows_of

if TYPE_CHECKING:
    from moeaudit.pruning.result import PruneCurve

WIDTH, LEFT, GAP, ROW = 980, 170, 34, 24
PER_ROW = 3
# What `luck` says first, as a mark: shape and class, so that neither colour nor shape is alone.
MARKS = {
    "yes": ("up", "v-pred"),
    "cheaper": ("diamond", "v-size"),
    "dearer": ("down", "v-rev"),
    "alike": ("square", "v-eq"),
    "open": ("circle", "v-open"),
    "too": ("circle", "v-few"),
}


def costs_figure(curve: PruneCurve, table: Markup) -> Figure:
    """A block for each scope and depth, a panel for each share, a row for each criterion."""
    rows = rows_of(curve)
    body: list[str] = []
    y = 8.0
    for scope, depth in dict.fromkeys((r["scope"], r["depth"]) for r in rows):
        mine = [r for r in rows if (r["scope"], r["depth"]) == (scope, depth)]
        shares = sorted({r["keep"] for r in mine}, reverse=True)
        last = {r["criterion"]: r["d_nll"] for r in mine if r["keep"] == shares[-1]}
        names = [r["criterion"] for r in mine if r["kind"] == "criterion"]
        names = sorted(dict.fromkeys(names), key=lambda name: last[name])
        title = f"{DEPTHS[depth]}, {SCOPES[scope]}"
        body.append(svg.text(0, y + 10, title[0].upper() + title[1:], "title"))
        y += 22
        for start in range(0, len(shares), PER_ROW):
            y = _line_of_panels(body, curve, mine, names, shares[start : start + PER_ROW], y)
    drawn = any(r["kind"] == "random" for r in rows)
    level = percent(curve.level, 0)
    band = (
        Markup(
            " The grey band holds the middle {} of the losses of random choices of as many experts, the dashed line "
            "is their mean. Triangle up: better than luck over experts is shown. Hollow diamond: cheaper than the "
            "mean random choice, triangle down: dearer, filled square: alike, all of these experts only. "
            "Hollow circle: open; dashed: too little text."
        ).format(level)
        if drawn
        else Markup(" No random choices were drawn.")
    )
    caption = Markup(
        "Loss added to the whole model&rsquo;s (the line at 0), nats a token, with {} limits by documents; each panel "
        "has its own scale.{}"
    ).format(level, band)
    drawing = svg.document(WIDTH, y, "Loss added by each pruning criterion", body, 720)
    return Figure("costs", "What does each cut cost?", caption, drawing, table)


def _line_of_panels(
    body: list[str],
    curve: PruneCurve,
    rows: list[dict[str, Any]],
    names: list[str],
    shares: list[Any],
    y: svg.Number,
) -> Any:
    """Panels side by side from `y` on; returns where the next line begins."""
    width = (WIDTH - LEFT - GAP * (len(shares) - 1) - 14) / len(shares)
    height = ROW * max(len(names), 1)
    for i, name in enumerate(names):
        middle = y + 26 + (i + 0.5) * ROW + 4
        body.append(svg.text(LEFT - 14, middle, _short(criterion_name(name)), "tick", "end"))
    if not names:
        body.append(svg.text(LEFT - 14, y + 26 + ROW / 2 + 4, "random", "tick", "end"))
    for k, share in enumerate(shares):
        here = [r for r in rows if r["keep"] == share and r["kind"] != "whole"]
        _panel(body, curve, here, names, share, LEFT + k * (width + GAP), y, width, height)
    return y + 26 + height + 50


def _panel(
    body: list[str],
    curve: PruneCurve,
    rows: list[dict[str, Any]],
    names: list[str],
    share: svg.Number,
    x: svg.Number,
    y: svg.Number,
    width: svg.Number,
    height: svg.Number,
) -> None:
    top, bottom = y + 26, y + 26 + height
    ends = [float(r[k]) for r in rows for k in ("d_nll", "low", "high") if r[k] == r[k]]
    low, high = min([0.0, *ends]), max([1e-3, *ends])
    room = 0.04 * (high - low)
    place = svg.linear(low - room, high + room, x, x + width)
    body.append(svg.text(x, y + 16, f"{kept_share(share)} of the experts stay", "label"))
    marks = svg.ticks(low, high, 4)
    for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
        body.append(svg.line(place(tick), top, place(tick), bottom, "grid" if tick else "zero"))
        body.append(svg.text(place(tick), bottom + 16, words, "tick", "middle"))
    body.append(svg.text(x + width / 2, bottom + 33, "loss added, nats a token", "muted", "middle"))
    for row in rows:
        if row["kind"] == "random":
            wide = max(place(row["high"]) - place(row["low"]), 1.0)
            said = f"random choices: {estimate(row['d_nll'], row['low'], row['high'])}"
            body.append(svg.rect(place(row["low"]), top, wide, height, "band", said))
            body.append(svg.line(place(row["d_nll"]), top, place(row["d_nll"]), bottom, "luck"))
    for row in rows:
        if row["kind"] != "criterion":
            continue
        at = top + (names.index(row["criterion"]) + 0.5) * ROW
        word, meaning = luck(row, curve.margin)
        shape, css = MARKS.get(word.replace(",", " ").split()[0], ("circle", "v-open"))
        if row["low"] == row["low"]:
            body.append(svg.line(place(row["low"]), at, place(row["high"]), at, f"bar {css}"))
        said = (
            f"{criterion_name(row['criterion'])}, {kept_share(share)} stay: "
            f"{estimate(row['d_nll'], row['low'], row['high'])} nats a token; {meaning}"
        )
        body.append(svg.mark(place(row["d_nll"]), at, shape, css, said, 4))


def _short(name: str) -> str:
    """A label that fits its column; whole in the table and the tip."""
    return name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}"
