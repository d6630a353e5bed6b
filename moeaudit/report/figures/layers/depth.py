"""Figure: the effect by depth."""

from __future__ import annotations

from markupsafe import Markup

from moeaudit.frames import Frame

from ...pages.tables import Column, number, rows_of, table
from ...plot.depth import PANELS, face
from ...words.numbers import count, estimate, percent
from ...words.operator import OperatorWords
from .. import svg
from ..figure import Figure

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 330, 250, 48, 40, 44


def depth(frame: Frame, said: OperatorWords) -> Figure:
    """`summary.depth`: mean harm, KL and flip rate by layer, with intervals over documents."""
    drawn = []
    for column, title, unit, factor, signed in PANELS:
        body: list[str] = []
        unit = unit.format(one=said.one, many=said.many)
        _panel(body, frame, LEFT, WIDTH - LEFT - 6, column, title, unit, factor, signed)
        drawn.append(svg.document(WIDTH, HEIGHT, f"{title} by layer", body))
    caption = Markup(
        "The mean over all {} of the layer. Bands: 95% intervals over documents."
    ).format(said.many)
    return Figure(
        "depth",
        "How the effect changes with depth",
        caption,
        svg.panels(drawn),
        _table(frame, said),
        face(frame, said),
    )


def _panel(body, frame, x0, width, column, title, unit, factor, signed) -> None:
    layers = [int(x) for x in frame["layer"]]
    mean, low, high = (factor * frame[f"{column}{suffix}"] for suffix in ("", "_low", "_high"))
    low, high = low.fillna(mean), high.fillna(mean)
    bottom, top = min(0.0, float(low.min())), max(0.0, float(high.max()))
    if top == bottom:
        top = bottom + 1.0
    y = svg.linear(bottom, top * 1.05, HEIGHT - BOTTOM, TOP)
    x = svg.linear(0, max(1, len(layers) - 1), x0 + 8, x0 + width - 8)
    body.append(svg.text(0, 14, title, "title"))
    body.append(svg.text(0, 29, unit, "muted"))
    marks = svg.ticks(bottom, top, 4)
    for tick, words in zip(marks, svg.tick_texts(marks, signed)):
        body.append(svg.line(x0, y(tick), x0 + width, y(tick), "grid" if tick else "zero"))
        body.append(svg.text(x0 - 6, y(tick) + 4, words, "tick", "end"))
    upper = [(x(i), y(v)) for i, v in enumerate(high)]
    lower = [(x(i), y(v)) for i, v in enumerate(low)]
    body.append(svg.path(upper + lower[::-1], "area", closed=True))
    points = [(x(i), y(v)) for i, v in enumerate(mean)]
    body.append(svg.path(points, "curve"))
    for i, (px, py) in enumerate(points):
        interval = estimate(mean.iloc[i], low.iloc[i], high.iloc[i], signed)
        body.append(svg.mark(px, py, "circle", "point", f"layer {layers[i]}: {interval}"))
    step = next(s for s in (1, 2, 4, 8, 16) if s * width / len(layers) >= 22)
    for i in range(0, len(layers), step):
        body.append(svg.text(x(i), HEIGHT - BOTTOM + 16, str(layers[i]), "tick", "middle"))
    body.append(svg.text(x0 + width / 2, HEIGHT - BOTTOM + 33, "layer", "muted", "middle"))


def _table(frame: Frame, said: OperatorWords) -> Markup:
    columns = [
        Column("layer", lambda r: r["layer"]),
        Column(said.many, lambda r: count(r["rows"])),
        number("mean harm (nats)", lambda r: _estimate(r, "delta_nll", True), "delta_nll", True),
        number("mean KL (nats)", lambda r: _estimate(r, "kl", False), "kl", True),
        number("flips", lambda r: percent(r["flip"]), "flip"),
        Column(f"{said.many} that raise the loss", lambda r: percent(r["harmful"])),
    ]
    return table(rows_of(frame), columns, f"Mean effect of one {said.one}, by layer")


def _estimate(row, name: str, sign: bool) -> str:
    return estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], sign)
