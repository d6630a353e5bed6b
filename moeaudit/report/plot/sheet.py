"""What all figures of `ma.plot` share: a title, a note that counts what is left out, and paper of their own."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moeaudit.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_BYTES = (
    200_000  # of a figure as JSON, without the library: what a notebook's cell should carry
)
_LINE = 132  # characters of the note on a line: about 740 pixels
_RISE = 15  # pixels between its lines


def sheet(
    figure: go.Figure, title: str, under: str, note: Iterable[str], *, height: int, labels: int = 0
) -> go.Figure:
    """The figure with its title, one sentence under it and the note below the plot. Text is escaped here.

    `labels`: pixels that names under the plot take beyond a line of numbers. The note stands in
    `figure.layout.meta["note"]` as well, one string.
    """
    said = " ".join(sentence.strip() for sentence in note if sentence)
    lines = textwrap.wrap(said, _LINE)
    below = 74 + labels + _RISE * len(lines)
    figure.update_layout(
        title={
            "text": inert(title),
            "subtitle": {"text": "<br>".join(map(inert, textwrap.wrap(under, _LINE)))},
            "x": 0.01,
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 14},
        },
        height=height + below,
        margin={"l": 84, "r": 24, "t": 108, "b": below},
        paper_bgcolor="#ffffff",  # text is dark, whatever the notebook's theme
        plot_bgcolor="#ffffff",
        legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top", "xanchor": "left"},
        meta={"note": said},
    )
    figure.update_xaxes(title_standoff=8, title_font_size=13)
    figure.update_yaxes(title_standoff=8, title_font_size=13)
    if lines:
        figure.add_annotation(
            name="note",
            text="<br>".join(map(inert, lines)),
            font={"size": 11, "color": "#555555"},
            showarrow=False,
            align="left",
            xref="paper",
            yref="paper",
            x=0,
            y=0,
            xshift=-70,
            yshift=-60 - labels,
            xanchor="left",
            yanchor="top",
        )
    return figure


# A legend above the plot, at its right: under it stand axis titles.
ABOVE = {
    "orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"
}  # fmt: skip


def inert(text: object) -> str:
    """Text that plotly shows as it is: it takes a few tags and knows few entities, the quote's not among them."""
    return html.escape(str(text), quote=False)


def require(table: object, columns: Iterable[str], name: str, advice: str) -> None:
    """Refuse what is no table, lacks columns, or has no rows; `advice` says where such a table comes from."""
    needs = list(columns)
    have = getattr(table, "columns", None)
    if have is None:
        raise InputError(
            f"{name} must be a table with the columns {', '.join(needs)}, and this is a {type(table).__name__}. "
            f"{advice}"
        )
    missing = [column for column in needs if column not in list(have)]
    if missing:
        raise InputError(
            f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(map(str, have)) or 'none'}. {advice}"
        )
    if not len(table):  # pyright: ignore[reportArgumentType]
        raise InputError(f"{name} has no rows, so there is nothing to draw. {advice}")
