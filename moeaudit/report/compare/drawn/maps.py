"""Drawings: the runs' maps and their difference side by side, cell for cell; and their layers by depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.difference.verdicts import A_MORE, B_MORE, SHOWN

from ...figures import palette, svg
from ...pages.tables import rows_of
from ...words.evidence import outcome_name
from ...words.numbers import estimate, significant
from ..words import difference, number, unit, verdict_words

if TYPE_CHECKING:
    from ..pairs import Pair
    from ..result import Compared

WIDTH, LEFT = 320.0, 26.0
WIDE, MOST_NARROW = (
    980.0,
    40,
)  # experts: above it maps stand under each other, over the page's width
SIGNED = ("delta_nll", "delta_entropy", "delta_confidence", "delta_brier")
MARKS = [("circle", "v-rev"), ("square", "v-pred"), ("diamond", "c-gate_weight"), ("up", "v-eq"), ("down",
"c-heldout_causal")]  # fmt: skip


def map_drawings(compared: Compared, pair: Pair, outcome: str) -> list[Markup]:
    """Three drawings of one size: A, B, and A less B. A and B share their colours' scale."""
    cells = compared.cells
    rows = rows_of(cells[(cells["outcome"] == outcome) & (cells["b"] == pair.b.letter)])
    both = np.array([[number(r["mean_a"]), number(r["mean_b"])] for r in rows])
    top = _top(both)
    own = palette.diverging if outcome in SIGNED else palette.sequential
    gap = _top(np.array([number(r["difference"]) for r in rows]))
    a, b = pair.a, pair.b
    name = outcome_name(outcome).lower()
    return [
        _map(rows, pair, outcome, "mean_a", f"{a.letter}: {a.name}", own, top, f"Map of mean {name} in {a.letter}"),
        _map(rows, pair, outcome, "mean_b", f"{b.letter}: {b.name}", own, top, f"Map of mean {name} in {b.letter}"),
        _map(
            rows, pair, outcome, "difference", f"{a.letter} less {b.letter}", palette.diverging, gap,
            f"Map of the difference in {name}, {a.letter} less {b.letter}",
        ),
    ]  # fmt: skip


def _top(values: np.ndarray) -> float:
    """Where colours end: the 98% quantile of the sizes."""
    return float(np.nanquantile(np.abs(values), 0.98)) if np.isfinite(values).any() else 0.0


def _map(
    rows: list[dict[str, Any]],
    pair: Pair,
    outcome: str,
    column: str,
    title: str,
    classes: Callable[..., str],
    top: float,
    label: str,
) -> Markup:
    layers = pair.layers
    experts = 1 + max(expert for _, expert in pair.cells)
    wide = experts > MOST_NARROW
    page = WIDE if wide else WIDTH
    width = (page - LEFT - 2) / experts
    height = min(22.0, max(14.0, width))
    body = [svg.text(0, 13, _short(title, 90 if wide else 44), "title")]
    y = 22.0 + _legend(body, top, classes, outcome)
    for row in rows:
        x, at = LEFT + int(row["expert"]) * width, y + layers.index(int(row["layer"])) * height
        css = classes(number(row[column]), top)
        body.append(svg.rect(x, at, width - 0.7, height - 0.7, css, _tip(row, outcome)))
        if column == "difference" and row["verdict"] in SHOWN:
            shape = {A_MORE: "up", B_MORE: "down"}.get(row["verdict"], "circle")
            r = 1.6 if shape == "circle" else 3.0
            body.append(svg.mark(x + width / 2, at + height / 2, shape, f"dot on-{css}", r=r))
    for i, layer in enumerate(layers):
        if i % max(1, round(12 / height)) == 0:
            body.append(svg.text(LEFT - 5, y + (i + 0.5) * height + 4, str(layer), "tick", "end"))
    y += len(layers) * height + 13
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128) if s * width >= 26)
    for expert in range(0, experts, step):
        body.append(svg.text(LEFT + (expert + 0.5) * width, y, str(expert), "tick", "middle"))
    body.append(svg.text(page / 2, y + 15, "expert (across), layer (down)", "muted", "middle"))
    return _drawing(page, y + 22, label, body, wide)


def _legend(body: list[str], top: float, classes: Callable[..., str], outcome: str) -> float:
    """Swatches from weak to strong under the title; returns their height."""
    factor, scale = _units(top, outcome)
    edges = palette.edges(top)
    values = [0.0, edges[1] * 0.9, edges[2] * 0.9, edges[3] * 0.9, top]
    bounds = list(edges)
    if classes is palette.diverging:
        values = [-v for v in reversed(values[1:])] + values
        bounds = [-e for e in reversed(edges)] + bounds
    swatch = 32.0
    for i, value in enumerate(values):
        body.append(svg.rect(LEFT + i * swatch, 22, swatch - 1, 7, classes(value, top)))
    inner = (
        edges[0] if classes is palette.diverging else 0.0
    )  # two labels that would stand on each other
    for i, bound in enumerate(bounds, start=1):
        if abs(bound) == inner:
            continue
        said = significant(bound * factor, 2)
        body.append(svg.text(LEFT + i * swatch, 39, said, "tiny", "middle"))
    body.append(svg.text(LEFT, 52, scale, "muted"))
    return 38.0


def _units(top: float, outcome: str) -> tuple[float, str]:
    if unit(outcome) == "":
        return 100.0, "in %" if outcome == "flip" else "in hundredths"
    if top >= 1:
        return 1.0, "in nats"
    return (1e3, "in thousandths of a nat") if top >= 1e-3 else (1e6, "in millionths of a nat")


def _tip(row: dict[str, Any], outcome: str) -> str:
    a, b = row["a"], row["b"]
    signed = outcome in SIGNED
    means = ", ".join(
        f"{letter} {significant(number(row[f'mean_{side}']), 3, signed)}"
        for letter, side in ((a, "a"), (b, "b"))
    )
    return (
        f"layer {row['layer']}, expert {row['expert']}: {means}; {a} less {b} {difference(row)} "
        f"{unit(outcome)}".rstrip()
        + f": {verdict_words(row['verdict'], a, b)}"
        + (f" ({row['too_few']})" if row["too_few"] else "")
    )


def depth_drawing(compared: Compared, outcome: str) -> Markup:
    """Mean of every layer with its limits, by how deep it lies: one mark a run, so that no colour tells alone."""
    table: Frame = compared.profile
    rows = rows_of(table[table["outcome"] == outcome])
    ends = [number(r[k]) for r in rows for k in ("mean", "low", "high")]
    ends = [value for value in ends if value == value]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    page, top, bottom, left = WIDTH, 40.0, 190.0, 46.0
    factor, scale = _units(max(abs(low), abs(high)), outcome)
    place_x, place_y = svg.linear(0, 1, left, page - 8), svg.linear(low, high, bottom, top)
    body = [
        svg.text(0, 13, outcome_name(outcome), "title"),
        svg.text(0, 29, f"mean of a layer, {scale}", "muted"),
    ]
    marks = svg.ticks(low * factor, high * factor, 4)
    for tick, said in zip(marks, svg.tick_texts(marks)):
        y = place_y(tick / factor)
        body.append(svg.line(left, y, page - 8, y, "zero" if tick == 0 else "grid"))
        body.append(svg.text(left - 6, y + 4, said, "tick", "end"))
    for at, said in ((0.0, "first"), (0.5, "middle"), (1.0, "last")):
        anchor = {0.0: "", 0.5: "middle", 1.0: "end"}[at]
        body.append(svg.text(place_x(at), bottom + 16, said, "tick", anchor))
    body.append(svg.text(page / 2, bottom + 31, "depth of the layer", "muted", "middle"))
    for i, side in enumerate(compared.sides):
        mine = [r for r in rows if r["run"] == side.letter]
        shape, css = MARKS[i % len(MARKS)]
        shift = (i - (len(compared.sides) - 1) / 2) * 4
        for row in mine:
            x, y = place_x(number(row["depth"])) + shift, place_y(number(row["mean"]))
            if (lower := number(row["low"])) == lower:
                body.append(
                    svg.line(x, place_y(lower), x, place_y(number(row["high"])), f"bar {css}")
                )
            said = estimate(number(row["mean"]), lower, number(row["high"]), outcome in SIGNED)
            tip = f"{side.letter}, layer {row['layer']}: {said} {unit(outcome)}".rstrip()
            body.append(svg.mark(x, y, shape, css, tip, 3.2))
    y = bottom + 50
    for i, side in enumerate(compared.sides):
        shape, css = MARKS[i % len(MARKS)]
        body.append(svg.mark(6, y - 4, shape, css, r=3.6))
        body.append(svg.text(16, y, f"{side.letter}: {_short(side.name, 46)}"))
        y += 17
    names = " and ".join(s.letter for s in compared.sides)
    return _drawing(page, y - 6, f"{outcome_name(outcome)} by depth in {names}", body, False)


def _drawing(
    width: svg.Number, height: svg.Number, label: str, body: list[str], wide: bool
) -> Markup:
    """An svg that follows the width it is given: narrow ones stand beside or under each other as there is room."""
    if wide:
        return svg.document(width, height, label, body, 640)
    made = svg.document(width, height, label, body)
    return Markup(str(made).replace('class="chart least640"', 'class="chart"', 1))


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
