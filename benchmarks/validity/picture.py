"""The picture of docs/methods/validity.md: what was aimed at, and what each method did."""

from __future__ import annotations

from html import escape

ROW, LEFT, PANEL, GAP, TOP = 15, 200, 290, 40, 46
SERIES = {
    "max-T": ("#0a6b3d", 0),
    "token t, Bonferroni": ("#b0451f", 0),
    "adjusted": ("#0a6b3d", 1),
    "token": ("#b0451f", 1),
}
SCALES = ((0.0, 0.32, (0.035, 0.065)), (0.7, 1.0, (0.93, 0.97)))
TITLES = ("audits with a false claim (aim .05)", "95 % intervals that hold the truth")


def picture(false: list[tuple[str, dict]], cover: list[tuple[str, dict]]) -> str:
    """Two panels of dots, aims shaded; green is the default here, red what the literature does."""
    height = TOP + ROW * max(len(false), len(cover)) + 36
    width = 2 * (LEFT + PANEL) + GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' "
        "font-family='system-ui,sans-serif' font-size='10' fill='#1d2733'>",
        "<title>False claims and coverage on simulated and redrawn audits</title>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
    ]
    for panel, rows in enumerate((false, cover)):
        parts += _panel(panel, rows)
    return "".join(parts) + "</svg>\n"


def _panel(panel: int, rows: list[tuple[str, dict]]) -> list[str]:
    low, high, aim = SCALES[panel]
    left = panel * (LEFT + PANEL + GAP) + LEFT
    bottom = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return left + PANEL * (min(max(value, low), high) - low) / (high - low)

    parts = [
        f"<text x='{left}' y='16' font-size='12' font-weight='600'>{escape(TITLES[panel])}</text>",
        f"<rect x='{x(aim[0]):.1f}' y='{TOP - 8}' width='{x(aim[1]) - x(aim[0]):.1f}' "
        f"height='{bottom - TOP + 10}' fill='#dcebe2'/>",
    ]
    at = left
    for name, (colour, place) in SERIES.items():
        if place == panel:
            parts.append(f"<circle cx='{at + 4}' cy='28' r='3.5' fill='{colour}'/>")
            parts.append(f"<text x='{at + 12}' y='31.5'>{escape(name)}</text>")
            at += 110
    for i, (name, values) in enumerate(rows):
        y = TOP + ROW * i
        parts.append(f"<text x='{left - 8}' y='{y + 3.5}' text-anchor='end'>{escape(name)}</text>")
        parts.append(
            f"<line x1='{left}' x2='{left + PANEL}' y1='{y}' y2='{y}' stroke='#dde3ea' stroke-width='.6'/>"
        )
        for series, (colour, place) in SERIES.items():
            if place == panel:
                parts.append(
                    f"<circle cx='{x(values[series]):.1f}' cy='{y}' r='3.5' fill='{colour}'>"
                    f"<title>{escape(f'{name}: {series} {values[series]:.3f}')}</title></circle>"
                )
    for tick in (low, (low + high) / 2, high, *aim):
        parts.append(
            f"<text x='{x(tick):.1f}' y='{bottom + (14 if tick not in aim else 26)}' "
            f"text-anchor='middle' fill='#4a5562'>{tick:g}</text>"
        )
    return parts
