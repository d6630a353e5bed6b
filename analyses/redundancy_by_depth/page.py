"""The figure and the page of analyses/redundancy_by_depth: plain SVG and HTML, no scripts."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

PANELS = {
    "redundancy, kl": "Redundancy index, KL",
    "redundancy, delta_nll": "Redundancy index, delta NLL",
    "pair interaction over single, kl": "Pair interaction / single effect, KL",
    "effective experts, kl": "Effective number of experts, KL",
}
COLOURS = ("#23559c", "#a0341a", "#0a6b3d", "#7a4fa3", "#8a6d00")
WIDTH, HEIGHT, LEFT, TOP = 470, 270, 52, 34
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
h1{font-size:1.5rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2rem}.note{color:#4a5562;max-width:48rem}
table{border-collapse:collapse;font-size:.85rem}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #dde3ea}
th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}.scroll{overflow-x:auto}
"""


def panel(table: pd.DataFrame, summary: str, title: str, models: list[str]) -> str:
    """One summary by relative depth, a line and interval bars for each model."""
    part = table[table.summary == summary]
    drawn = part.dropna(subset=["estimate"])
    low, high = min(0.0, float(drawn.low.min())), max(0.0, float(drawn.high.max()))
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - 40)

    def x(depth: float) -> float:
        return LEFT + 14 + depth * (WIDTH - LEFT - 40)

    out = [f"<text x='{LEFT}' y='20' font-weight='600'>{escape(title)}</text>"]
    for tick in ticks(low, high):
        width = 1.4 if tick == 0 else 0.6
        out.append(
            f"<line x1='{LEFT}' x2='{WIDTH - 12}' y1='{y(tick):.1f}' y2='{y(tick):.1f}' stroke='#c3cbd5' "
            f"stroke-width='{width}'/><text x='{LEFT - 6}' y='{y(tick) + 4:.1f}' text-anchor='end'>{tick:g}</text>"
        )
    for m, model in enumerate(models):
        mine = part[part.model == model].sort_values("layer")
        every = mine.layer.to_numpy()
        depth = (every - every.min()) / max(1, every.max() - every.min())
        at = [x(d) + 5 * (m - (len(models) - 1) / 2) for d in depth]
        colour, points = COLOURS[m % len(COLOURS)], []
        for place, row in zip(at, mine.itertuples()):
            if np.isnan(row.estimate):
                out.append(
                    f"<text x='{place:.1f}' y='{HEIGHT - 28}' text-anchor='middle' fill='{colour}'>&#215;</text>"
                )
                continue
            points.append(f"{place:.1f},{y(row.estimate):.1f}")
            out.append(
                f"<line x1='{place:.1f}' x2='{place:.1f}' y1='{y(row.low):.1f}' y2='{y(row.high):.1f}' "
                f"stroke='{colour}' stroke-width='2' opacity='.55'/><circle cx='{place:.1f}' "
                f"cy='{y(row.estimate):.1f}' r='3.2' fill='{colour}'/>"
            )
        out.append(
            f"<polyline points='{' '.join(points)}' fill='none' stroke='{colour}' opacity='.5'/>"
        )
    for depth, label in ((0.0, "first MoE layer"), (1.0, "last")):
        anchor = "start" if depth == 0 else "end"
        out.append(
            f"<text x='{x(depth):.1f}' y='{HEIGHT - 8}' text-anchor='{anchor}'>{label}</text>"
        )
    return "".join(out)


def ticks(low: float, high: float) -> list[float]:
    """A handful of round numbers between the limits."""
    size = 10.0 ** np.floor(np.log10(high - low))
    step = next(
        s for s in (0.1 * size, 0.2 * size, 0.5 * size, size, 2 * size) if (high - low) / s <= 6
    )
    first = int(np.ceil(low / step))
    return [round(i * step, 10) for i in range(first, int(np.floor(high / step)) + 1)]


def figure(table: pd.DataFrame) -> str:
    """Four panels, two by two."""
    models = list(dict.fromkeys(table.model))
    parts = []
    for i, (summary, title) in enumerate(PANELS.items()):
        place = f"translate({(i % 2) * WIDTH},{(i // 2) * HEIGHT})"
        parts.append(f"<g transform='{place}'>{panel(table, summary, title, models)}</g>")
    legend = "".join(
        f"<circle cx='{LEFT + 6 + 190 * m}' cy='{2 * HEIGHT + 14}' r='4' fill='{COLOURS[m % len(COLOURS)]}'/>"
        f"<text x='{LEFT + 16 + 190 * m}' y='{2 * HEIGHT + 18}'>{escape(model)}</text>"
        for m, model in enumerate(models)
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {2 * WIDTH} {2 * HEIGHT + 30}' role='img' "
        "aria-label='Redundancy, interaction and Shapley concentration by depth' "
        f"font-family='system-ui,sans-serif' font-size='12' fill='#1d2733'>{''.join(parts)}{legend}</svg>\n"
    )


def rows_of(table: pd.DataFrame, model: str) -> str:
    """One row a layer: every summary with its interval."""
    wanted = [*PANELS, "pair interaction over single, delta_nll", "share of rank 0, kl"]
    wanted += ["joint, delta_nll", "sum of singles, delta_nll", "joint, kl", "sum of singles, kl"]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("layer", *wanted))
    body = []
    mine = table[table.model == model]
    for layer, part in mine.groupby("layer"):
        cells = part.set_index("summary")
        body.append("".join([f"<td>{layer}</td>", *(cell(cells.loc[name]) for name in wanted)]))
    lines = "".join(f"<tr>{row}</tr>" for row in body)
    return f"<div class='scroll'><table><tr>{head}</tr>{lines}</table></div>"


def cell(row: pd.Series) -> str:
    if np.isnan(row.estimate):
        return "<td>not estimable</td>"
    limits = "" if np.isnan(row.low) else f"<br>[{row.low:.3g}, {row.high:.3g}]"
    return f"<td>{row.estimate:.3g}{limits}</td>"


def write_page(out: Path, table: pd.DataFrame, facts: pd.DataFrame) -> None:
    """figure.svg and index.html in `out`."""
    drawn = figure(table)
    (out / "figure.svg").write_text(drawn, encoding="utf-8")
    lost = int(table[table.summary.str.startswith("redundancy")].estimate.isna().sum())
    body = [
        "<h1>Redundancy of active experts, by depth</h1>",
        "<p class='note'>Every set of a token's active experts was removed at every MoE layer. An index of 0 "
        "says that effects add up; above 0, that experts share what they do; below 0, that each stands in "
        "for the others, so that one removal alone shows less than its part. KL grows with the square of a "
        "small change, so its index is 0 for orthogonal changes of the prediction and negative for "
        "changes that point the same way. Bars are 95 % intervals "
        f"over resampled documents. {lost} indices are not estimable (&#215;): their mean sum of single "
        "effects is not told apart from 0.</p>",
        drawn,
    ]
    for row in facts.itertuples():
        body.append(
            f"<h2>{escape(row.model)}</h2><p class='note'>top-{row.top_k}, {row.documents} documents, "
            f"{row.tokens:,} tokens, {row.counterfactuals:,} counterfactuals. {escape(row.verified)}</p>"
        )
        body.append(rows_of(table, row.model))
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><meta "
        "http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<title>Redundancy of active experts by depth</title>"
    )
    page = f"<!doctype html><html lang='en'><head>{head}<style>{STYLE}</style></head><body>"
    path = out / "index.html"
    path.write_text(page + "\n".join(body) + "</body></html>\n", encoding="utf-8")
