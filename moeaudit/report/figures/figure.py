"""One figure, three faces: a drawing that needs no script, its table, and an interactive twin."""

from __future__ import annotations

from dataclasses import dataclass
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
