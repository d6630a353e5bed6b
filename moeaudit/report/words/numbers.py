"""How numbers are written: to the precision their own uncertainty leaves, with a true minus."""

from __future__ import annotations

import math

import numpy as np

Number = float | int | np.number  # beartype takes neither int nor np.int64 for a float

MINUS = "\N{MINUS SIGN}"


def decimals_for(error: Number, most: int = 6) -> int:
    """Decimals that show two significant digits of `error` (a half-width or standard error)."""
    if not math.isfinite(error) or error <= 0:
        return 3
    return min(most, max(0, 1 - math.floor(math.log10(error))))


def fixed(value: Number, decimals: int, sign: bool = False) -> str:
    """`value` with `decimals` decimals; a dash for a missing value; no negative zero."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def estimate(value: Number, low: Number, high: Number, sign: bool = True) -> str:
    """`+0.123 [+0.100, +0.146]`, rounded by the interval's own width."""
    if math.isnan(value):
        return "\N{EN DASH}"
    if math.isnan(low) or math.isnan(high):
        return fixed(value, 4, sign)
    decimals = decimals_for((high - low) / 2)
    return f"{fixed(value, decimals, sign)} {interval(low, high, decimals, sign)}"


def interval(low: Number, high: Number, decimals: int | None = None, sign: bool = True) -> str:
    """`[+0.100, +0.146]`."""
    if math.isnan(low) or math.isnan(high):
        return "\N{EN DASH}"
    if decimals is None:
        decimals = decimals_for((high - low) / 2)
    return f"[{fixed(low, decimals, sign)}, {fixed(high, decimals, sign)}]"


def significant(value: Number, digits: int = 2, sign: bool = False) -> str:
    """`value` to `digits` significant digits, in plain notation from 1e-4 up, else as 3.1e-7."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent > 6:
        mantissa = f"{value:{'+' if sign else ''}.{digits - 1}e}"
        head, _, power = mantissa.partition("e")
        return f"{head}e{int(power)}".replace("-", MINUS)
    return fixed(value, max(0, digits - 1 - exponent), sign)


def count(value: Number) -> str:
    """An integer with thin groups of three: 72,288."""
    return f"{int(value):,}"


def percent(value: Number, decimals: int = 1) -> str:
    """A fraction as a percentage."""
    return "\N{EN DASH}" if math.isnan(value) else f"{fixed(100 * value, decimals)}%"


def probability(value: Number) -> str:
    """A p-value: three decimals, or `< 0.001`."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 document`, `24 documents`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def layers_text(layers: list[int]) -> str:
    """`0-2, 5`: neighbouring layers are joined, three or more with a dash."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [
        f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run))
        for run in runs
    ]
    return ", ".join(parts)
