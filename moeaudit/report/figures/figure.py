"""One figure, three faces: a drawing that needs no script, its table, and an interactive twin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Figure:
    """What the page needs of a figure. `key` is its anchor; `caption` says what was measured."""

    key: str
    title: str
    caption: Markup
    drawing: Markup
    table: Markup
    plot: go.Figure | None = None


def standalone(drawing: Markup) -> str:
    """A drawing as an SVG file that needs no page around it: with the rules of the page's style for charts,
    in its light colours, on its own paper."""
    sheet = resources.files("moeaudit.report").joinpath("static", "style.css").read_text("utf-8")
    colours = sheet[sheet.index(":root {") : sheet.index("}") + 1]
    rules = [
        line for line in sheet.splitlines() if line.startswith((".chart", "svg.chart", "rect."))
    ]
    style = "\n".join([colours.replace("light dark", "light"), *rules])
    width, height = re.search(r'viewBox="0 0 (\S+) (\S+)"', drawing).groups()  # pyright: ignore
    paper = f'<rect x="-16" y="-16" width="{float(width) + 32:g}" height="{float(height) + 32:g}" fill="#fdfdfb"/>'
    head, body = str(drawing).split(">", 1)
    head = re.sub(
        r'viewBox="[^"]*"', f'viewBox="-16 -16 {float(width) + 32:g} {float(height) + 32:g}"', head
    )
    return f"{head}><style>{style}</style>{paper}{body}\n"


def styled(plot: go.Figure, height: int) -> go.Figure:
    """The look all interactive figures share. Colours of text and grid follow the page's theme."""
    plot.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 70, "r": 20, "t": 50, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
        legend={"orientation": "h", "y": -0.18},
    )
    return plot
