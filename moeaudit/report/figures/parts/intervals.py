"""A panel of contrasts: a row a metric or control, a point a layer with its limits, bound and luck where known."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import INCONCLUSIVE, NOT_ESTIMABLE

from ...plot.verdict_points import calm, reaches
from ...words.evidence import metric_name
from ...words.numbers import estimate, fixed, probability
from .. import svg
from ..palette import VERDICTS

WIDTH, LEFT, ROW, TOP = 440, 34, 60, 40
LABEL = 15  # of a row: the metric's name above its points
Span = tuple[float, float]


def panel(part: Frame, names: list[str], title: tuple[str, str]) -> Markup:
    """One outcome. Metrics share an axis, controls another: they may reach several times as far."""
    layers = sorted(int(x) for x in part["layer"].unique())
    controls = set(part.loc[part["role"] == "control", "metric"])
    spans = {role: calm(part[part["role"] == role]) for role in ("metric", "control")}
    body = [svg.text(0, 14, title[0], "title"), svg.text(0, 29, title[1], "muted")]
    width = WIDTH - LEFT - 4
    place = svg.linear(-0.5, len(layers) - 0.5, LEFT, LEFT + width)
    y, ruled = float(TOP), False
    for name in names:
        if name in controls and not ruled:
            body += [svg.line(0, y + 5, WIDTH, y + 5, "rule")]
            body.append(svg.text(0, y + 21, "controls, on an axis of their own", "muted"))
            y, ruled = y + 28, True
        rows = part[part["metric"] == name]
        _row(body, rows, name, layers, place, spans["control" if name in controls else "metric"], y)
        y += ROW
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if s * width / len(layers) >= 22)
    for i in range(0, len(layers), step):
        body.append(svg.text(place(i), y + 10, str(layers[i]), "tick", "middle"))
    body.append(svg.text(LEFT + width / 2, y + 25, "layer", "muted", "middle"))
    return svg.document(WIDTH, y + 32, f"{title[0]}: effect size by metric and layer", body)


def clipped(frame: Frame) -> int:
    """Points and limits that reach beyond their axis, over all outcomes."""
    parts = frame.groupby(["outcome", "role"], sort=False)
    return sum(int(reaches(part).sum()) for _, part in parts)


def key(frame: Frame) -> Markup:
    """The signs of the verdicts that occur, of controls, and of what is drawn behind and at the edges."""
    out = []
    for verdict, (shape, css, _) in VERDICTS.items():
        mine = (frame["verdict"] == verdict) & (frame["role"] == "metric")
        if mine.any():
            out.append(svg.sign(svg.mark(7, 10, shape, css), verdict))
    for name in dict.fromkeys(frame.loc[frame["role"] == "control", "metric"]):
        label = f"{metric_name(name)[0]} (control)"
        out.append(svg.sign(svg.mark(7, 10, "diamond", f"control c-{name}"), label))
    if "sesoi" in frame and frame["sesoi"].notna().any():
        out.append(svg.sign(svg.rect(1, 5, 12, 10, "band key"), "zone of no interest"))
    if "null_high" in frame and frame["null_high"].notna().any():
        out.append(svg.sign(svg.rect(1, 5, 12, 10, "luck key"), "95% of luck over experts"))
    if clipped(frame):
        out.append(svg.sign(svg.mark(7, 10, "up", "beyond", r=3), "reaches beyond the axis"))
    return svg.signs(out)


def _row(body, rows: Frame, name: str, layers, place, span: Span, y: svg.Number) -> None:
    """One metric: its name, the axis, and a point a layer."""
    least, most = span
    top, bottom, width = y + LABEL, y + ROW - 4, WIDTH - LEFT - 4
    scale = svg.linear(least, most, bottom - 2, top + 2)
    first, second = metric_name(name)
    body.append(svg.name(0, y + 11, first, second))
    body.append(svg.rect(LEFT, top, width, bottom - top, "panel"))
    half = 0.5 * width / len(layers)
    cells = [(place(layers.index(int(r.layer))), r) for r in rows.itertuples()]
    for x, row in cells:
        if np.isfinite(bound := getattr(row, "sesoi", np.nan)):
            _box(body, x, half, -bound, bound, scale, span, "band")
    body.append(svg.line(LEFT, scale(0), LEFT + width, scale(0), "zero"))
    for x, row in cells:
        low, high = (getattr(row, f"null_{end}", np.nan) for end in ("low", "high"))
        if np.isfinite(low) and np.isfinite(high):
            _box(body, x, 0.76 * half, low, high, scale, span, "luck")
    marks = svg.ticks(least, most, 3)
    for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
        if tick:
            body.append(svg.line(LEFT, scale(tick), LEFT + width, scale(tick), "grid"))
        body.append(svg.text(LEFT - 4, scale(tick) + 3, words, "tiny", "end"))
    for x, row in cells:
        _point(body, row, x, scale, span, half)


def _box(body, x: float, half: float, low, high, scale, span: Span, css: str) -> None:
    """Cut to the axis; nothing where it lies wholly beyond."""
    low, high = max(float(low), span[0]), min(float(high), span[1])
    if high > low:
        body.append(svg.rect(x - half, scale(high), 2 * half, scale(low) - scale(high), css))


def _point(body: list[str], row, x: float, scale: svg.Scale, span: Span, half: float) -> None:
    shape, css, _ = VERDICTS.get(row.verdict, VERDICTS[INCONCLUSIVE])
    if row.role == "control":
        shape, css = "diamond", f"control c-{row.metric}"
    if not np.isfinite(row.d_z):
        reason = getattr(row, "reason", None) or NOT_ESTIMABLE
        body.append(svg.mark(x, scale(0), "circle", "v-none", f"layer {row.layer}: {reason}", 2.4))
        return
    words = (
        f"{metric_name(row.metric)[0]}, layer {row.layer}: d_z {estimate(row.d_z, row.low, row.high)}, "
        f"adjusted p {probability(row.p_adjusted)}, {row.verdict or row.role}"
    )
    least, most = span
    if np.isfinite(row.low) and np.isfinite(row.high) and row.high >= least and row.low <= most:
        low, high = max(row.low, least), min(row.high, most)
        body.append(svg.line(x, scale(low), x, scale(high), f"bar {css}"))
        wide = min(3.5, 0.6 * half)
        for end, held in ((low, row.low >= least), (high, row.high <= most)):
            if held:  # an end that is cut has an arrow instead
                body.append(svg.line(x - wide, scale(end), x + wide, scale(end), f"cap {css}"))
            else:
                way = "down" if end == least else "up"
                body.append(
                    svg.mark(x, scale(end), way, "beyond", f"{words}; beyond the axis", 2.6)
                )
    if least <= row.d_z <= most:
        body.append(svg.mark(x, scale(row.d_z), shape, css, words, 2.2))
        return
    up = row.d_z > most
    y = scale(most) + 4 if up else scale(least) - 4
    body.append(svg.mark(x, y, "up" if up else "down", css, f"{words}; beyond the axis", 3.2))
    if half > 17:
        text = fixed(row.d_z, 2, True)
        body.append(svg.text(x, y + 13 if up else y - 7, text, "tiny", "middle"))
