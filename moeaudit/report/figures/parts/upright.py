"""The maps for a phone: experts go down, layers across, so that every cell is as wide as a finger's tip allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame

from ...words.numbers import Number, fixed, significant
from .. import palette, svg

WIDTH, LEFT = 380, 26
Panel = tuple[str, str, str, Callable[[Number, Number], str]]


def upright(cells: Frame, panels: Sequence[Panel], label: str) -> Markup:
    """One drawing a panel, in the colours of the wide ones; without tips, which need a pointer (the table has them)."""
    return Markup("").join(_panel(cells, *panel, label) for panel in panels)


def _panel(cells: Frame, title: str, column: str, unit: str, classes, label: str) -> Markup:
    layers = sorted(int(x) for x in cells["layer"].unique())
    experts = int(cells["expert"].max()) + 1
    width = (WIDTH - LEFT - 2) / len(layers)
    height = 15.0 if experts <= 64 else 9.0
    values = cells[column].to_numpy(dtype="float64")
    top = float(np.nanquantile(np.abs(values), 0.98)) if np.isfinite(values).any() else 0.0
    big = 100 if column == "share" else 1 if top >= 1 else 1e3 if top >= 1e-3 else 1e6
    scale = {100: "%", 1: "nats", 1e3: "thousandths of a nat", 1e6: "millionths of a nat"}[big]
    body = [svg.text(0, 14, title, "title"), svg.text(0, 29, f"{unit}; in {scale}", "muted")]
    _legend(body, top * big, classes)
    y = 76.0
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if s * width >= 16)
    for i in range(0, len(layers), step):
        body.append(svg.text(LEFT + (i + 0.5) * width, y - 5, str(layers[i]), "tick", "middle"))
    body.append(svg.text(0, y - 5, "layer", "tiny"))
    place = {layer: i for i, layer in enumerate(layers)}
    digits = 1 if top * big < 100 else 0
    for row in cells.itertuples():
        x, at = LEFT + place[int(row.layer)] * width, y + int(row.expert) * height
        value = float(getattr(row, column))
        css = "none" if row.rows == 0 else classes(value, top)
        body.append(svg.rect(x, at, width - 1, height - 1, css))
        if row.rows == 0:
            continue
        sure = column == "delta_nll" and (row.delta_nll_low > 0 or row.delta_nll_high < 0)
        if width >= 36 and height >= 14:
            kind = f"in on-{css}{' bold' if sure else ''}"
            written = fixed(value * big, digits, sign=column == "delta_nll")
            body.append(svg.text(x + width / 2, at + height / 2 + 4, written, kind, "middle"))
        elif sure:
            dot = svg.mark(x + width / 2, at + height / 2, "circle", f"dot on-{css}", r=1.5)
            body.append(dot)
    for expert in range(0, experts, 1 if height > 12 else 2):
        at = y + (expert + 0.5) * height + 3.5
        body.append(svg.text(LEFT - 5, at, str(expert), "tiny", "end"))
    return svg.document(WIDTH, y + experts * height + 14, f"{label}: {title}, by expert", body)


def _legend(body: list[str], top: Number, classes) -> None:
    edges = palette.edges(top, classes)
    values = [0.0, *(e * 1.01 for e in edges)]
    bounds = list(edges)
    if classes is palette.diverging:
        values = [*(-v for v in reversed(values[1:])), *values]
        bounds = [*(-e for e in reversed(edges)), *edges]
    swatch = WIDTH / len(values)
    for i, value in enumerate(values):
        body.append(svg.rect(i * swatch, 37, swatch - 1, 7, classes(value, top)))
    for i, bound in enumerate(bounds, start=1):
        body.append(svg.text(i * swatch, 55, significant(bound, 2), "tiny", "middle"))
