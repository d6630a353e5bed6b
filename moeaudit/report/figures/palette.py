"""Colour classes. The page's style sheet turns them into colours, for light, dark and print.

Orange is harm (or a positive association) and blue is help, a pair that common forms of colour
blindness keep apart; a sign is never told by colour alone.
"""

from __future__ import annotations

import math

from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_ESTIMABLE,
    OPEN,
    PREDICTIVE,
    REVERSED,
    TOO_FEW,
)

from ..words.numbers import Number

# Upper edges of classes 0..3 as fractions of the largest value shown; class 4 is above.
EDGES = (1 / 64, 1 / 16, 1 / 4, 9 / 16)
EVEN = (0.2, 0.4, 0.6, 0.8)

# The same colours for plotly, which needs them spelt out: from blue through grey to orange.
DIVERGING = [
    [0.0, "#0b4f8a"],
    [0.22, "#4c92ca"],
    [0.4, "#a9cbe3"],
    [0.5, "#efefec"],
    [0.6, "#f5c9a6"],
    [0.78, "#e0813c"],
    [1.0, "#a63c06"],
]
SEQUENTIAL = [
    [0.0, "#f1f0f5"],
    [0.25, "#cfc6e3"],
    [0.5, "#a291c9"],
    [0.75, "#7154a5"],
    [1.0, "#3f1f73"],
]


def level(value: Number, top: Number) -> int:
    """How strong: 0 (next to nothing) to 4, by |value| / top."""
    if top <= 0 or math.isnan(value):
        return 0
    return sum(abs(value) / top >= edge for edge in EDGES)


def diverging(value: Number, top: Number) -> str:
    """Class d-4 .. d4, written `dm4` for minus four."""
    if math.isnan(value):
        return "none"
    strength = level(value, top)
    return f"dm{strength}" if value < 0 and strength else f"d{strength}"


def sequential(value: Number, top: Number) -> str:
    """Class q0 .. q4."""
    return "none" if math.isnan(value) else f"q{level(value, top)}"


def even(value: Number, top: Number) -> str:
    """Class q0 .. q4 in even steps, for shares: most of them are of one size, and all steps count."""
    if math.isnan(value) or top <= 0:
        return "none" if math.isnan(value) else "q0"
    return f"q{sum(value / top >= edge for edge in EVEN)}"


def edges(top: Number, classes: object = None) -> list[float]:
    """The values where the class changes; `classes` is `even` or one of the others."""
    return [edge * top for edge in (EVEN if classes is even else EDGES)]


VERDICTS = {
    # verdict: (shape, css class, plotly colour)
    PREDICTIVE: ("up", "v-pred", "#c4500a"),
    REVERSED: ("down", "v-rev", "#1f6aa5"),
    OPEN: ("diamond", "v-size", "#c98a4b"),
    BELOW: ("square", "v-below", "#9a7a5a"),
    EQUIVALENT: ("square", "v-eq", "#6b6b6b"),
    INCONCLUSIVE: ("circle", "v-open", "#9a9a9a"),
    TOO_FEW: ("circle", "v-few", "#b9b9b9"),
    NOT_ESTIMABLE: ("circle", "v-none", "#c0c0c0"),
}
