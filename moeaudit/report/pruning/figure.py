"""Figure: what each criterion's cut costs, share by share, beside random choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..figures import svg
from ..figures.figure import Figure
from ..figures.parts.signed import short
from ..words.numbers import estimate, percent
from .words import DEPTHS, SCOPES, criterion_name, kept_share, luck, rows_of

if TYPE_CHECKING:
    from moeaudit.pruning.result import PruneCurve

WIDTH, ROW, TOP, EDGE = 380, 34, 26, 12
# What `luck` says first, as a mark: shape and class, so that neither colour nor shape is alone.
MARKS = {
    "yes": ("up", "v-pred"),
    "cheaper": ("diamond", "v-size"),
    "dearer": ("down", "v-rev"),
    "alike": ("square", "v-eq"),
    "open": ("circle", "v-open"),
    "too": ("circle", "v-few"),
    "\N{EN DASH}": ("circle", "v-open"),
}
SAID = {
    "yes": "better than luck over experts",
    "cheaper": "cheaper than the mean random choice, these experts",
    "dearer": "dearer than it, these experts",
    "alike": "alike, these experts",
    "open": "open",
    "too": "too little text",
    "\N{EN DASH}": "not asked",
}


def costs_figure(curve: PruneCurve, table: Markup) -> Figure:
    """A block for each scope and depth, a panel for each share, a row for each criterion."""
    rows = rows_of(curve)
    blocks = list(dict.fromkeys((r["scope"], r["depth"]) for r in rows))
    drawing = Markup("").join(_block(curve, rows, *block) for block in blocks)
    words = dict.fromkeys(_sign(luck(r, curve.margin)[0]) for r in rows if r["kind"] == "criterion")
    signs = [svg.sign(svg.mark(7, 10, *MARKS[word]), SAID[word]) for word in words]
    if any(r["kind"] == "random" for r in rows):
        level = percent(curve.level, 0)
        signs.append(svg.sign(svg.rect(1, 5, 12, 10, "band key"), f"{level} of random choices"))
        signs.append(svg.sign(svg.line(7, 3, 7, 17, "luck"), "mean random choice"))
        end = "The key speaks of these experts alone, and of the criterion itself only where it says better than luck."
    else:
        end = "No random choices were drawn."
    caption = Markup(
        "Loss added to the whole model&rsquo;s (the line at 0), nats a token, with {} limits by documents; each panel "
        "has its own scale. {}"
    ).format(percent(curve.level, 0), end)
    drawing = Markup("{}{}").format(svg.signs(signs), drawing)
    return Figure("costs", "What does each cut cost?", caption, drawing, table)


def _block(curve: PruneCurve, rows: list[dict[str, Any]], scope: str, depth: str) -> Markup:
    mine = [r for r in rows if (r["scope"], r["depth"]) == (scope, depth)]
    shares = sorted({r["keep"] for r in mine}, reverse=True)
    last = {r["criterion"]: r["d_nll"] for r in mine if r["keep"] == shares[-1]}
    names = [r["criterion"] for r in mine if r["kind"] == "criterion"]
    names = sorted(dict.fromkeys(names), key=lambda name: last[name])
    title = f"{DEPTHS[depth]}, {SCOPES[scope]}"
    drawn = []
    for share in shares:
        here = [r for r in mine if r["keep"] == share and r["kind"] != "whole"]
        drawn.append(_panel(curve, here, names, share, title))
    head = Markup('<p class="caption"><strong>{}</strong></p>').format(title[0].upper() + title[1:])
    panels = Markup('<div class="panels">{}</div>')  # never narrower than 320 px
    return head + panels.format(Markup("").join(drawn))


def _panel(
    curve: PruneCurve,
    rows: list[dict[str, Any]],
    names: list[str],
    share: svg.Number,
    title: str,
) -> Markup:
    top, bottom = TOP, TOP + ROW * max(len(names), 1)
    ends = [float(r[k]) for r in rows for k in ("d_nll", "low", "high") if r[k] == r[k]]
    low, high = min([0.0, *ends]), max([1e-3, *ends])
    room = 0.04 * (high - low)
    place = svg.linear(low - room, high + room, EDGE, WIDTH - EDGE)
    body = [svg.text(0, 14, f"{kept_share(share)} of the experts stay", "label")]
    marks = svg.ticks(low, high, 4)
    for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
        for i in range(max(len(names), 1)):  # below each name, which it would cross
            ends_at = top + (i + 1) * ROW
            kind = "grid" if tick else "zero"
            body.append(svg.line(place(tick), ends_at - ROW + 16, place(tick), ends_at, kind))
        body.append(svg.text(place(tick), bottom + 16, words, "tick", "middle"))
    body.append(svg.text(WIDTH / 2, bottom + 33, "loss added, nats a token", "muted", "middle"))
    for row in rows:
        if row["kind"] == "random":
            wide = max(place(row["high"]) - place(row["low"]), 1.0)
            said = f"random choices: {estimate(row['d_nll'], row['low'], row['high'])}"
            body.append(svg.rect(place(row["low"]), top, wide, bottom - top, "band", said))
            body.append(svg.line(place(row["d_nll"]), top, place(row["d_nll"]), bottom, "luck"))
    if not names:
        body.append(svg.text(0, top + 12, "random", "tick"))
    for row in rows:
        if row["kind"] != "criterion":
            continue
        line = top + names.index(row["criterion"]) * ROW
        at = line + 23
        body.append(svg.text(0, line + 12, short(criterion_name(row["criterion"]), 56), "tick"))
        word, meaning = luck(row, curve.margin)
        shape, css = MARKS[_sign(word)]
        if row["low"] == row["low"]:
            body.append(svg.line(place(row["low"]), at, place(row["high"]), at, f"bar {css}"))
        said = (
            f"{criterion_name(row['criterion'])}, {kept_share(share)} stay: "
            f"{estimate(row['d_nll'], row['low'], row['high'])} nats a token; {meaning}"
        )
        body.append(svg.mark(place(row["d_nll"]), at, shape, css, said, 4))
    label = (
        f"Loss added by each pruning criterion, {kept_share(share)} of the experts stay: {title}"
    )
    return svg.document(WIDTH, bottom + 40, label, body, most=480)


def _sign(word: str) -> str:
    """The mark of what `luck` says."""
    first = word.replace(",", " ").split()[0]
    return first if first in MARKS else "open"
