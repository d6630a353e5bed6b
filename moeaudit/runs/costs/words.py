"""Bytes, operations, weights and seconds as people read them."""

from __future__ import annotations


def size_of(n: float | int) -> str:
    """Bytes as 13.8 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:,.3g} {unit}" if n < 1000 * size else f"{n / size:,.0f} {unit}"
    return f"{n / 1e3:,.3g} kB"


def flops(n: float | int) -> str:
    """Operations as 3.22 PFLOP."""
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if n >= size:
            return f"{n / size:,.3g} {unit}" if n < 1000 * size else f"{n / size:,.0f} {unit}"
    return f"{n / 1e6:,.3g} MFLOP"


def big(n: float | int) -> str:
    """A number of weights as 1.18 B."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:,.0f}"


def rate(n: float | int) -> str:
    return f"{n:,.0f}" if n >= 10 else f"{n:.2g}"


def duration(seconds: float | int) -> str:
    """Seconds as 12 s, 5.2 min, 3.1 h, 4.5 days or 2.3 years."""
    for unit, size, up_to in (
        ("s", 1.0, 120.0),
        ("min", 60.0, 120.0),
        ("h", 3600.0, 72.0),
        ("days", 86400.0, 730.0),
    ):
        if seconds < size * up_to:
            return (
                f"{seconds / size:.2g} {unit}"
                if seconds < 10 * size
                else f"{seconds / size:.0f} {unit}"
            )
    return f"{seconds / (365.25 * 86400.0):,.3g} years"
