"""Figure: layer x expert maps of harm, disturbance and use."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame

from ..pages.tables import Column, folded, number, rows_of, table
from ..plot.map import face
from ..words.numbers import count, estimate, fixed, percent, plural, significant
from ..words.operator import OperatorWords
from ..words.subject import COLUMNS
from . import palette, svg
from .figure import Figure
from .parts.upright import upright

WIDTH, LEFT = 1080, 70
NARROW, LEFT_NARROW = 400, 30


def maps(cells: Frame, said: OperatorWords) -> Figure:
    """The maps over `summary.cells`; numbers stand in the cells where there is room.

    Where rows are not about experts, `expert` of the cells numbers what they are about.
    """
    panels = [
        ("Mean harm", "delta_nll", "change of the next token's NLL, nats", palette.diverging),
        ("Mean disturbance", "kl", "KL(clean || edited), nats", palette.sequential),
        ("Use", "share", "fraction of tokens routed to the expert", palette.even),
    ]
    by_expert = said.subject == "expert"
    _, each, cell, _ = COLUMNS[said.subject]
    names = "harm, disturbance and use" if by_expert else "harm and disturbance"
    label = f"Layer by {said.subject} maps of {names}"
    panels = panels if by_expert else panels[:2]
    body: list[str] = []
    y = 0.0
    for title, column, unit, classes in panels:
        y = _panel(body, cells, said, y, title, column, unit, classes)
    drawing = svg.document(WIDTH, y, label, body)
    if by_expert:
        drawing = svg.either(drawing, upright(cells, panels, label))
    idle = int((cells["rows"] == 0).sum())
    if by_expert:
        over = f"its {said.many}, one for every token that was routed to it"
        never = f"{plural(idle, 'expert')} never active on these documents."
        last = never if idle else "Every expert was active at least once."
    else:
        over, last = f"its {said.many}", ""
    caption = Markup(
        "Each cell is {}: the mean over {}. <strong>Bold, or a dot in small cells,</strong> where "
        "the 95% interval over documents excludes zero (each cell on its own, not corrected for "
        "looking at {} of them). {}"
    ).format(cell, over, count(len(cells)), last)
    return Figure(
        "maps",
        f"Where in the model: {each} of every layer" if each else "Where in the model: every layer",
        caption,
        drawing,
        folded(
            "All experts as a table, least harm first" if by_expert else "All cells as a table",
            _table(cells, said),
        ),
        face(cells, said),
    )


def _panel(body, cells, said, y, title, column, unit, classes) -> float:
    heading, _, _, first = COLUMNS[said.subject]
    layers = sorted(cells["layer"].unique())
    experts = int(cells["expert"].max()) + 1
    width = min(160.0, (WIDTH - LEFT - 10) / experts)
    height = min(24.0, max(9.0, width))
    values = cells[column].to_numpy(dtype="float64")
    top = reach_of(values)
    factor, scale_name = (100, "%") if column == "share" else units(top)
    body.append(svg.text(0, y + 15, title, "title"))
    body.append(svg.text(LEFT + 90, y + 15, f"{unit}; scale in {scale_name}", "muted"))
    _legend(body, y + 4, top, factor, classes)
    y += 26
    digits = 1 if top * factor < 100 else 0
    for row in cells.itertuples():
        x = LEFT + row.expert * width
        at = y + layers.index(row.layer) * height
        value = float(getattr(row, column))
        css = "none" if row.rows == 0 else classes(value, top)
        body.append(svg.rect(x, at, width - 1, height - 1, css, _title(row, said)))
        sure = column == "delta_nll" and (row.delta_nll_low > 0 or row.delta_nll_high < 0)
        if row.rows == 0:
            if width >= 38:
                body.append(svg.text(x + width / 2, at + height / 2 + 4, "never", "tick", "middle"))
        elif width >= 38:
            kind = f"in on-{css}{' bold' if sure else ''}"
            written = fixed(value * factor, digits, sign=column == "delta_nll")
            body.append(svg.text(x + width / 2, at + height / 2 + 4, written, kind, "middle"))
        elif sure:
            body.append(
                svg.mark(x + width / 2 - 0.5, at + height / 2, "circle", f"dot on-{css}", r=1.5)
            )
    every = max(1, math.ceil(14 / height))
    for i, layer in enumerate(layers):
        if i % every == 0:
            at = y + i * height + height / 2 + 4
            body.append(svg.text(LEFT - 8, at, said.place(int(layer)), "tick", "end"))
    y += len(layers) * height + 13
    if not heading:
        return y + 12
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if s * width >= 26)
    for expert in range(0, experts, step):
        words = str(first + expert)
        body.append(svg.text(LEFT + (expert + 0.5) * width, y, words, "tick", "middle"))
    body.append(svg.text(LEFT - 8, y, heading, "tick", "end"))
    return y + 26


def reach_of(values: np.ndarray) -> float:
    """Where the colours end: the 98% quantile of the sizes, so that one cell does not take them all."""
    return float(np.nanquantile(np.abs(values), 0.98)) if np.isfinite(values).any() else 0.0


def units(top: svg.Number) -> tuple[float, str]:
    if top >= 1:
        return 1, "nats"
    return (1e3, "thousandths of a nat") if top >= 1e-3 else (1e6, "millionths of a nat")


def _legend(body: list[str], y: svg.Number, top: svg.Number, factor: svg.Number, classes) -> None:
    """Swatches from weak to strong with the values where the colour changes."""
    edges = palette.edges(top, classes)
    signed = classes is palette.diverging
    values = [-top, -edges[3] * 0.9, -edges[2] * 0.9, -edges[1] * 0.9] if signed else []
    values += [0.0, edges[1] * 0.9, edges[2] * 0.9, edges[3] * 0.9, top]
    bounds = [-e for e in reversed(edges)] if signed else []
    bounds += edges
    swatch = 42
    x = WIDTH - 10 - swatch * len(values)
    for i, value in enumerate(values):
        body.append(svg.rect(x + i * swatch, y, swatch - 1, 8, classes(value, top)))
    for i, bound in enumerate(bounds, start=1):
        words = significant(bound * factor, 2)
        body.append(svg.text(x + i * swatch, y + 18, words, "tiny", "middle"))


def _where(layer: int, column: int, said: OperatorWords) -> str:
    heading, _, _, first = COLUMNS[said.subject]
    place = said.place(int(layer))
    return f"{place}, {heading} {first + column}" if heading else place


def _title(row, said: OperatorWords) -> str:
    where = _where(row.layer, row.expert, said)
    if row.rows == 0:
        return f"{where}: never active on these documents"
    harm = estimate(row.delta_nll, row.delta_nll_low, row.delta_nll_high)
    return (
        f"{where}: harm {harm} nats, KL {significant(row.kl)}, "
        f"{count(row.rows)} {said.many} in {count(row.documents)} documents"
        + (f", use {percent(row.share)}" if said.subject == "expert" else "")
    )


def _table(cells: Frame, said: OperatorWords) -> Markup:
    heading, each, _, first = COLUMNS[said.subject]
    stub = (
        Column(
            f"layer, {heading}",
            lambda r: _linked(r, said),
            value=lambda r: f"{r['layer']}, {first + r['expert']}",
        )
        if heading
        else Column("layer", lambda r: said.place(r["layer"]).removeprefix("layer "))
    )
    use = []
    if said.subject == "expert":
        ranks = cells[cells["rows"] > 0].groupby("layer")["delta_nll"].rank(method="min")
        cells = cells.assign(rank=ranks).sort_values("delta_nll", na_position="last", kind="stable")
        use = [
            number("use", lambda r: percent(r["share"]), "share"),
            number("harm in its layer, 1 least", lambda r: fixed(r["rank"], 0), "rank"),
        ]
    columns = [
        stub,
        number("mean harm (nats)", lambda r: _estimate(r, "delta_nll", True), "delta_nll", True),
        *use,
        number("mean KL (nats)", lambda r: _estimate(r, "kl", False), "kl", True),
        number("flips", lambda r: percent(r["flip"]), "flip"),
        number(said.many, lambda r: count(r["rows"]), "rows"),
        number("documents", lambda r: count(r["documents"]), "documents"),
    ]
    whose = (each or "every layer").capitalize()
    caption = f"{whose}: mean effect of its {said.many}, with 95% intervals over documents"
    if said.subject == "expert":
        caption += ", least harm first"
    return table(rows_of(cells), columns, caption)


def _linked(row, said: OperatorWords) -> str | Markup:
    """The cell's name; of an expert, a link to its card."""
    first = COLUMNS[said.subject][3]
    name = f"{row['layer']}, {first + row['expert']}"
    if said.subject != "expert":
        return name
    return Markup('<a href="#expert={}.{}">{}</a>').format(row["layer"], row["expert"], name)


def _estimate(row, name: str, sign: bool) -> str:
    return estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], sign)
