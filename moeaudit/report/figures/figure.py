"""One figure, three faces: a drawing that needs no script, its table, and an interactive twin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Figure:
    """What the page needs of a figure. `key` is its anchor; `caption` says what was measured; `data` is what a
    script of the page reads to change it, as JSON."""

    key: str
    title: str
    caption: Markup
    drawing: Markup
    table: Markup
    plot: go.Figure | None = None
    data: dict[str, Any] | None = None


def standalone(drawing: Markup) -> str:
    """A drawing as one SVG file that needs no page around it: key above, panels side by side, with the rules of the
    page's style for charts, in its light colours, on its own paper."""
    sheet = resources.files("moeaudit.report").joinpath("static", "style.css").read_text("utf-8")
    colours = sheet[sheet.index(":root {") : sheet.index("}") + 1]
    rules = [
        line for line in sheet.splitlines() if line.startswith((".chart", "svg.chart", "rect."))
    ]
    style = "\n".join([colours.replace("light dark", "light"), *rules])
    drawn = re.findall(
        r'<svg ([^>]*)viewBox="0 0 (\S+) (\S+)"([^>]*)>(.*?)</svg>', str(drawing), re.DOTALL
    )
    label = re.search(r'aria-label="([^"]*)"', drawn[-1][3])
    places, x, y, right, below = [], 0.0, 0.0, 0.0, 0.0
    for before, wide, high, after, body in drawn:
        sign = "sign" in before + after
        if not sign and below and y == 0.0:
            x, y, below = 0.0, below + 8, below + 8  # panels begin under the key
        if sign and x and x + float(wide) > 900:
            x, y = 0.0, below
        places.append(f'<g transform="translate({x:g} {y:g})">{body}</g>')
        below = max(below, y + float(high))
        right = max(right, x + float(wide))
        x += float(wide) + (8 if sign else 24)
    width, height = right + 32, below + 32
    head = (
        f'<svg viewBox="-16 -16 {width:g} {height:g}" role="img" class="chart" '
        f'aria-label="{label[1] if label else ""}" xmlns="http://www.w3.org/2000/svg">'
    )
    paper = f'<rect x="-16" y="-16" width="{width:g}" height="{height:g}" fill="#fdfdfb"/>'
    return f"{head}<style>{style}</style>{paper}{''.join(places)}</svg>\n"


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
