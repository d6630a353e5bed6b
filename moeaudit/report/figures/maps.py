"""Figure: layer x expert maps of harm, disturbance and use."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame

from ..pages.tables import Column, folded, rows_of, table
from ..words.numbers import count, decimals_for, estimate, fixed, percent, plural, significant
from . import palette, svg
from .figure import Figure, styled

WIDTH = 980
LEFT = 70


def maps(cells: Frame) -> Figure:
    """The three maps over `summary.cells`; numbers stand in the cells where there is room."""
    panels = [
        ("Mean harm", "delta_nll", "change of the next token's NLL, nats", palette.diverging),
        ("Mean disturbance", "kl", "KL(clean || ablated), nats", palette.sequential),
        ("Use", "share", "fraction of tokens routed to the expert", palette.sequential),
    ]
    body: list[str] = []
    y = 0.0
    for title, column, unit, classes in panels:
        y = _panel(body, cells, y, title, column, unit, classes)
    idle = int((cells["rows"] == 0).sum())
    caption = Markup(
        "Each cell is one expert of one layer: the mean over every token that was routed to it, when "
        "it alone is removed for that token. <strong>Bold, or a dot in small cells,</strong> where "
        "the 95% interval over documents excludes zero (each cell on its own, not corrected for "
        "looking at {} of them). {}"
    ).format(
        count(len(cells)),
        f"{plural(idle, 'expert')} never active on these documents."
        if idle
        else "Every expert was active at least once.",
    )
    return Figure(
        "maps",
        "Where in the model: every expert of every layer",
        caption,
        svg.document(WIDTH, y, "Layer by expert maps of harm, disturbance and use", body, 640),
        folded("All cells as a table", _table(cells)),
        _plot(cells),
    )


def _panel(body, cells, y, title, column, unit, classes) -> float:
    layers = sorted(cells["layer"].unique())
    experts = int(cells["expert"].max()) + 1
    width = (WIDTH - LEFT - 10) / experts
    height = min(24.0, max(9.0, width))
    values = cells[column].to_numpy(dtype="float64")
    top = float(np.nanquantile(np.abs(values), 0.98)) if np.isfinite(values).any() else 0.0
    factor, scale_name = (100, "%") if column == "share" else _units(top)
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
        body.append(svg.rect(x, at, width - 1, height - 1, css, _title(row)))
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
            body.append(svg.text(LEFT - 8, at, f"layer {layer}", "tick", "end"))
    y += len(layers) * height + 13
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if s * width >= 26)
    for expert in range(0, experts, step):
        body.append(svg.text(LEFT + (expert + 0.5) * width, y, str(expert), "tick", "middle"))
    body.append(svg.text(LEFT - 8, y, "expert", "tick", "end"))
    return y + 26


def _units(top: svg.Number) -> tuple[float, str]:
    if top >= 1:
        return 1, "nats"
    return (1e3, "thousandths of a nat") if top >= 1e-3 else (1e6, "millionths of a nat")


def _legend(body: list[str], y: svg.Number, top: svg.Number, factor: svg.Number, classes) -> None:
    """Swatches from weak to strong with the values where the colour changes."""
    edges = palette.edges(top)
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


def _title(row) -> str:
    where = f"layer {row.layer}, expert {row.expert}"
    if row.rows == 0:
        return f"{where}: never active on these documents"
    harm = estimate(row.delta_nll, row.delta_nll_low, row.delta_nll_high)
    return (
        f"{where}: harm {harm} nats, KL {significant(row.kl)}, "
        f"{count(row.rows)} removals in {count(row.documents)} documents, use {percent(row.share)}"
    )


def _table(cells: Frame) -> Markup:
    columns = [
        Column("layer, expert", lambda r: f"{r['layer']}, {r['expert']}"),
        Column("removals", lambda r: count(r["rows"])),
        Column("documents", lambda r: count(r["documents"])),
        Column("use", lambda r: percent(r["share"])),
        Column("mean harm (nats)", lambda r: _estimate(r, "delta_nll", True)),
        Column("mean KL (nats)", lambda r: _estimate(r, "kl", False)),
        Column("flips", lambda r: percent(r["flip"])),
    ]
    caption = "Every expert: mean effect of removing it, with 95% intervals over documents"
    return table(rows_of(cells), columns, caption)


def _estimate(row, name: str, sign: bool) -> str:
    return estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], sign)


def _plot(cells: Frame):
    import plotly.graph_objects as go

    choices = [
        ("Mean harm (nats)", "delta_nll", palette.DIVERGING, True),
        ("Mean KL (nats)", "kl", palette.SEQUENTIAL, False),
        ("Share of tokens", "share", palette.SEQUENTIAL, False),
    ]
    plot = go.Figure()
    for i, (name, column, colours, signed) in enumerate(choices):
        grid = cells.pivot(index="layer", columns="expert", values=column)
        top = float(np.nanmax(np.abs(grid.to_numpy()))) or 1.0
        digits = decimals_for(top / 100)
        plot.add_heatmap(
            z=np.round(grid.to_numpy(dtype="float64"), digits + 2),
            x=[int(x) for x in grid.columns],
            y=[f"layer {y}" for y in grid.index],
            colorscale=colours,
            zmin=-top if signed else 0,
            zmax=top,
            visible=i == 0,
            name=name,
            colorbar={"title": {"text": name, "side": "right"}},
            hovertemplate=f"%{{y}}, expert %{{x}}<br>{name}: %{{z}}<extra></extra>",
        )
    buttons = [
        {
            "label": choice[0],
            "method": "restyle",
            "args": ["visible", [j == i for j in range(len(choices))]],
        }
        for i, choice in enumerate(choices)
    ]
    plot.update_layout(
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.15, "yanchor": "top"}]
    )
    plot.update_xaxes(title="expert")
    plot.update_yaxes(autorange="reversed")
    return styled(plot, 420)
