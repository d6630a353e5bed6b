"""The two figures of calibrated_moe, as SVG without scripts: gaps by stratum, differences in ECE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.report.figures import svg
from moeaudit.report.words.numbers import estimate

# Mark and class of each training; the style sheet of pages colours the classes for light, dark and print.
LOOKS = (
    ("circle", "control"), ("up", "v-pred"), ("square", "v-rev"), ("diamond", "c-heldout_causal"),
    ("down", "c-gate_weight"), ("circle", "v-open"),
)  # fmt: skip
TRAININGS: dict[str, tuple[str, str]] = dict(
    zip(("vanilla", "tilted", "filtered", "bounded"), LOOKS)
)
STEP, PAD = 11, 12


def gaps(
    scores: Frame,
    strata: list[str],
    label: str,
    shifted: set[str],
    looks: Mapping[str, tuple[str, str]] = TRAININGS,
) -> Markup:
    """Signed gap by stratum and training: as trained on the left, after one temperature on the right.

    `scores` are the rows of one task and routing; `looks` says how each training is drawn.
    """
    rows = scores[(scores["metric"] == "gap") & scores["stratum"].isin(strata)]
    panels = [("none", "as trained"), ("one temperature", "after one temperature each")]
    shown = rows[rows["recalibration"].isin([p for p, _ in panels])]
    low, high = _range(shown["low"].min(), shown["high"].max())
    left, width, space = 200, 360, 26
    band = STEP * len(looks) + PAD
    height = 56 + band * len(strata) + 44
    body = [_legend(left, 14, looks)]
    for p, (recalibration, title) in enumerate(panels):
        start = left + p * (width + space)
        x = svg.linear(low, high, start, start + width)
        body.append(svg.text(start, 44, title, "label"))
        bottom = 52 + band * len(strata)
        for value, words in _ticks(low, high):
            body.append(svg.line(x(value), 52, x(value), bottom, "zero" if value == 0 else "grid"))
            body.append(svg.text(x(value), bottom + 16, words, "", "middle"))
        for i, stratum in enumerate(strata):
            top = 52 + band * i
            if i % 2 == 0:
                body.insert(0, svg.rect(start, top, width, band, "band"))
            if p == 0:
                name = f"{stratum} *" if stratum in shifted else stratum
                body.append(svg.text(left - 10, top + band / 2 + 4, name, "", "end"))
            here = rows[(rows["recalibration"] == recalibration) & (rows["stratum"] == stratum)]
            for k, (training, (shape, css)) in enumerate(looks.items()):
                row = here[here["training"] == training].iloc[0]
                y = top + PAD / 2 + STEP * (k + 0.5)
                tip = f"{training}, {stratum}: {estimate(row['value'], row['low'], row['high'])}"
                body += _bar(x, y, row, shape, css, tip)
    middle = left + width + space / 2
    body.append(svg.text(middle, height - 8, "confidence minus accuracy", "", "middle"))
    return svg.document(left + 2 * width + space + 16, height, label, body, 720)


COMPARISONS = {
    "as trained - vanilla": "as trained, against vanilla",
    "both with one temperature": "both after one temperature",
    "as trained - vanilla with one temperature by that loss": "against vanilla, T by that loss",
}


def advantages(differences: Frame, strata: list[str], label: str) -> Markup:
    """Difference in ECE to vanilla, by training and comparison; one panel a stratum."""
    rows = differences[(differences["metric"] == "ece") & differences["stratum"].isin(strata)]
    rows = rows[rows["comparison"].isin(COMPARISONS)]
    low, high = _range(rows["low"].min(), rows["high"].max())
    trainings = [t for t in TRAININGS if t != "vanilla"]
    left, width, space, band = 300, 310, 26, 19
    block = band * len(COMPARISONS) + PAD
    height = 36 + block * len(trainings) + 44
    bottom = height - 44
    body: list[str] = []
    for p, stratum in enumerate(strata):
        start = left + p * (width + space)
        x = svg.linear(low, high, start, start + width)
        body.append(svg.text(start, 20, f"ECE, {stratum}", "label"))
        for value, words in _ticks(low, high):
            body.append(svg.line(x(value), 28, x(value), bottom, "zero" if value == 0 else "grid"))
            body.append(svg.text(x(value), bottom + 16, words, "", "middle"))
        for i, training in enumerate(trainings):
            shape, css = TRAININGS[training]
            for k, (name, words) in enumerate(COMPARISONS.items()):
                y = 28 + block * i + PAD / 2 + band * (k + 0.5)
                if p == 0:
                    body.append(svg.text(left - 10, y + 4, f"{training}: {words}", "", "end"))
                here = rows[(rows["training"] == training) & (rows["stratum"] == stratum)]
                row = here[here["comparison"] == name].iloc[0]
                tip = f"{training}, {words}: {estimate(row['value'], row['low'], row['high'])}"
                body += _bar(x, y, row, shape, css, tip)
    middle = left + width + space / 2
    words = "difference in ECE (left of the line: the robust loss has the smaller one)"
    body.append(svg.text(middle, height - 8, words, "", "middle"))
    return svg.document(left + 2 * width + space + 16, height, label, body, 720)


def _bar(x: svg.Scale, y: float, row: Any, shape: str, css: str, tip: str) -> list[str]:
    return [
        svg.line(x(row["low"]), y, x(row["high"]), y, f"bar {css}"),
        svg.mark(x(row["value"]), y, shape, css, tip, 3.4),
    ]


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    values = svg.ticks(low, high, 5)
    return list(zip(values, svg.tick_texts(values, sign=True)))


def _legend(x: float, y: float, looks: Mapping[str, tuple[str, str]]) -> str:
    parts = []
    for name, (shape, css) in looks.items():
        parts += [svg.mark(x + 4, y - 4, shape, css), svg.text(x + 14, y, name)]
        x += max(80.0, 6.2 * len(name) + 24)
    return "".join([*parts, svg.text(x, y, "* not seen in training")])


def _range(low: float, high: float) -> tuple[float, float]:
    room = 0.04 * (high - low)
    return min(low, 0.0) - room, max(high, 0.0) + room
