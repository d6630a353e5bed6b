"""What a notebook shows: HTML that needs no scripts, and the same in words where there is no HTML."""

from __future__ import annotations

from functools import cache
from typing import Any

from markupsafe import Markup

from ..pages.browser import visible
from ..pages.template import static

MOST_BYTES = 200_000  # of a cell


class Shown:
    """Something with an HTML face and a plain one. JupyterLab, VS Code and exported pages show the first."""

    def __init__(self, html: Markup, text: str) -> None:
        self.html, self.text = str(html), text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        return {"text/html": self.html, "text/plain": self.text}


@cache
def style() -> Markup:
    """The style sheet of a cell; all of it is about what stands inside `.moeaudit`."""
    return Markup("<style>{}</style>").format(Markup(static("cell.css")))


def framed(kind: str, label: str, *parts: Markup) -> Markup:
    """The cell: its style, and its parts under a name."""
    return Markup('{}<section class="moeaudit {}" aria-label="{}">{}</section>').format(
        style(), kind, label, Markup("").join(parts)
    )


def table(head: list[str], rows: list[list[Any]], caption: str) -> Markup:
    """A table; the first column is text, the others are numbers."""
    top = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in head)
    lines = []
    for first, *rest in rows:
        cells = Markup("").join(Markup("<td>{}</td>").format(value) for value in rest)
        lines.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(first, cells))
    return Markup(
        '<div class="wide"><table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(caption, top, Markup("").join(lines))


def folded(summary: str, inside: Markup, open_: bool = False) -> Markup:
    return Markup("<details{}><summary>{}</summary>{}</details>").format(
        Markup(" open") if open_ else "", summary, inside
    )


def brief(text: object, most: int = 40) -> str:
    """A token's text made visible, and cut where it is very long."""
    said = visible(text)
    return said if len(said) <= most else f"{said[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def shade(value: float, top: float) -> str:
    """A background for a signed value: orange for more, blue for less; it lets the text's own colour stand.

    The strength follows the square root, so that small effects can be told from none.
    """
    if not value or top <= 0:
        return ""
    strength = min(1.0, abs(value) / top) ** 0.5 * 0.55
    colour = "224,129,60" if value > 0 else "63,134,191"
    return f"background:rgba({colour},{strength:.2f})"


def hue(number: int, of: int) -> str:
    """A background for one of several kinds, told apart by hue; the kind's number always stands beside it."""
    turn = round(360 * (number * 0.618034 % 1)) if of > 12 else round(360 * number / max(1, of))
    return f"background:hsla({turn},65%,55%,.35)"
