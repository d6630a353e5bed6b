"""A few words of SVG: enough to draw a chart by hand, with classes so that CSS picks the colours.

Text is escaped here and nowhere else; numbers are written short, since there are many of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from ..words.numbers import Number, fixed

Scale = Callable[[Number], float]


def num(value: Number) -> str:
    """A coordinate: at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: Number, y: Number, words: object, cls: str = "", anchor: str = "") -> str:
    """A text element; `anchor` is middle or end (start if empty)."""
    where = f' text-anchor="{anchor}"' if anchor else ""
    kind = f' class="{cls}"' if cls else ""
    return f'<text x="{num(x)}" y="{num(y)}"{kind}{where}>{escape(words)}</text>'


def name(x: Number, y: Number, first: str, second: str) -> str:
    """A label, and behind it in small what it is."""
    detail = f'<tspan dx="6" class="tiny">{escape(second)}</tspan>' if second else ""
    return f'<text x="{num(x)}" y="{num(y)}" class="label">{escape(first)}{detail}</text>'


def rect(x: Number, y: Number, width: Number, height: Number, cls: str, title: str = "") -> str:
    """A rectangle, with a native tooltip if `title` is given."""
    shape = f'x="{num(x)}" y="{num(y)}" width="{num(width)}" height="{num(height)}" class="{cls}"'
    return f"<rect {shape}><title>{escape(title)}</title></rect>" if title else f"<rect {shape}/>"


def line(x1: Number, y1: Number, x2: Number, y2: Number, cls: str) -> str:
    """A straight line."""
    return f'<line x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}" class="{cls}"/>'


def path(points: list[tuple[float, float]], cls: str, closed: bool = False) -> str:
    """A polyline, or a filled outline if `closed`."""
    steps = " ".join(f"{num(x)},{num(y)}" for x, y in points)
    name = "polygon" if closed else "polyline"
    return f'<{name} points="{steps}" class="{cls}"/>'


def mark(x: Number, y: Number, shape: str, cls: str, title: str = "", r: Number = 3.6) -> str:
    """A point: circle, square, up (triangle), down (triangle) or diamond."""
    words = f"<title>{escape(title)}</title>" if title else ""
    if shape == "circle":
        return f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(r)}" class="{cls}">{words}</circle>'
    corners = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "up": [(-1.1, 0.9), (1.1, 0.9), (0, -1.2)],
        "down": [(-1.1, -0.9), (1.1, -0.9), (0, 1.2)],
        "diamond": [(0, -1.3), (1.2, 0), (0, 1.3), (-1.2, 0)],
    }[shape]
    steps = " ".join(f"{num(x + r * dx)},{num(y + r * dy)}" for dx, dy in corners)
    return f'<polygon points="{steps}" class="{cls}">{words}</polygon>'


def document(
    width: Number,
    height: Number,
    label: str,
    body: list[str],
    least: int | None = None,
    most: int | None = None,
) -> Markup:
    """The svg element: scales with what it stands in and is named for screen readers.

    `least`: 640 or 720 px below which it does not shrink but scrolls; `most`: 480 or 760 px above which it does not
    grow. These widths the style sheet knows, since the page's policy allows no style attributes. None: it shrinks
    and grows, as a panel made for a phone's width may.
    """
    kind = "chart" if least is None else f"chart least{least}"
    kind += "" if most is None else f" most{most}"
    head = (
        f'<svg viewBox="0 0 {num(width)} {num(height)}" role="img" class="{kind}" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    )
    return Markup(head + "".join(body) + "</svg>")


def panels(drawn: Sequence[Markup], signs: Markup | str = "") -> Markup:
    """Drawings side by side where there is room and one under the other on a phone, below a common key."""
    kind = "panels of3" if len(drawn) > 2 else "panels"
    return Markup('{}<div class="{}">{}</div>').format(signs, kind, Markup("").join(drawn))


def either(wide: Markup, narrow: Markup) -> Markup:
    """One of two drawings of the same: `narrow` on a phone, `wide` elsewhere and on paper."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def sign(body: str, words: str) -> Markup:
    """One entry of a key: a mark drawn around (7, 10), and what it means."""
    width = num(22 + 6.9 * len(words))
    return Markup(
        f'<svg width="{width}" height="20" viewBox="0 0 {width} 20" class="chart sign" role="img" '
        f'aria-label="{escape(words)}">{body}{text(18, 14, words, "tick")}</svg>'
    )


def signs(entries: Sequence[Markup]) -> Markup:
    """A key whose entries wrap."""
    return Markup('<p class="signs">{}</p>').format(Markup("").join(entries))


def linear(low: Number, high: Number, start: Number, end: Number) -> Scale:
    """Map [low, high] to [start, end]."""
    slope = (end - start) / (high - low) if high > low else 0.0
    return lambda value: start + (value - low) * slope


def symlog(threshold: Number) -> Scale:
    """Linear near zero, logarithmic beyond `threshold`: sign(v) log10(1 + |v| / threshold)."""
    return lambda value: math.copysign(math.log10(1 + abs(value) / threshold), value)


def tick_texts(values: list[float], sign: bool = False) -> list[str]:
    """Tick labels with as many decimals as their common step needs, and no more."""
    decimals = 0
    while decimals < 8 and any(
        abs(v * 10**decimals - round(v * 10**decimals)) > 1e-6 for v in values
    ):
        decimals += 1
    return [fixed(v, decimals, sign) for v in values]


def ticks(low: Number, high: Number, about: int = 5) -> list[float]:
    """Round numbers between low and high, about `about` of them."""
    if not high > low:
        return [float(low)]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]
