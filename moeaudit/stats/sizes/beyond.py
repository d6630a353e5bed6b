"""Is an effect beyond the smallest one of interest? A test of its own, so that it can be corrected.

Of many cells whose effect lies on the bound, some interval lies above it by luck. `p_beyond` is what
Holm's correction needs: the smallest 1 - level whose limits leave the bound out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from .limits import Spread, limits_of

LEAST_P = 1e-6
Around = Callable[[float, float, float, float], tuple[float, float]]  # limits made longer


def p_beyond(
    estimate: float,
    spread: Spread,
    bound: float,
    *,
    around: Around | None = None,
    least: float = 0.2,
) -> float:
    """Two-sided p against |effect| <= bound, by `limits.limits_of` (lengthened by `around`).

    1 where even limits of level 1 - `least` hold the bound: no
    level at which anything is claimed tells such values apart, and most cells are spared the search.
    NaN limits give NaN.
    """

    def room(p: float) -> float:
        """How far the limits of level 1 - p stay off the bound."""
        low, high = limits_of(estimate, spread, 1 - p)
        if around is not None:
            low, high = around(estimate, low, high, 1 - p)
        return low - bound if estimate > 0 else -bound - high

    start = room(least)
    if np.isnan(start):
        return float("nan")
    if start <= 0:
        return 1.0
    if room(LEAST_P) > 0:
        return LEAST_P
    return float(optimize.brentq(room, LEAST_P, least, xtol=1e-7))  # pyright: ignore[reportArgumentType]
