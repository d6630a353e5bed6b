"""The smallest effect of interest in words."""

from __future__ import annotations

from moeaudit.stats import Bound

from .numbers import significant

UNITS = {
    "nats": "nats a token",
    "harm": "share of the layer's mean effect",
    "d_z": "d_z (by the noise of one token)",
}


def bound_words(declared: Bound | str | float) -> str:
    """`0.01 nats`, `50% of the layer's mean`, `d_z of 0.1`."""
    bound = Bound.parse(declared)
    return (
        f"d_z of {bound.value:g}" if bound.unit == "d_z" else short_bound(bound) + _OF[bound.unit]
    )


def short_bound(declared: Bound | str | float) -> str:
    """The size alone, beside a heading that names its unit: `0.01`, `50%`."""
    bound = Bound.parse(declared)
    return f"{100 * bound.value:g}%" if bound.unit == "harm" else f"{bound.value:g}"


_OF = {"nats": " nats", "harm": " of the layer's mean"}


def span_words(low: float, high: float) -> str:
    """What a bound comes to in d_z, from the lowest to the highest cell."""
    one, two = significant(low, 2), significant(high, 2)
    return one if one == two else f"{one} to {two}"
