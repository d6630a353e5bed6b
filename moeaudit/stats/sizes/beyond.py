"""Is an effect beyond the smallest one of interest, or within it? Tests of their own, so that they can be
corrected.

Of many cells whose effect lies on the bound, some interval lies above it by luck. `p_beyond` is what
Holm's correction needs: the smallest 1 - level whose limits leave the bound out. `p_within` is its
counterpart for smallness, by the same limits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

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

    return _smallest(room, least)


def p_within(
    estimate: float,
    spread: Spread,
    bound: float,
    *,
    around: Around,
    least: float = 0.2,
) -> float:
    """p of equivalence within (-bound, bound) by lengthened limits: half the smallest 1 - level whose limits
    lie inside (two one-sided tests, Schuirmann 1987; `limits.tost_p` where nothing is lengthened).

    1 above `least`, as in `p_beyond`. NaN limits give NaN.
    """

    def room(p: float) -> float:
        """How far the limits of level 1 - 2p stay inside the bounds."""
        low, high = limits_of(estimate, spread, 1 - 2 * p)
        low, high = around(estimate, low, high, 1 - 2 * p)
        return min(low + bound, bound - high)

    return _smallest(room, least)


def _smallest(room: Callable[[float], float], least: float) -> float:
    """The smallest p, from LEAST_P on, that leaves `room`; 1 where not even `least` does, NaN if unknown."""
    start = room(least)
    if np.isnan(start):
        return float("nan")
    if start <= 0:
        return 1.0
    if room(LEAST_P) > 0:
        return LEAST_P
    return float(scipy.optimize.brentq(room, LEAST_P, least, xtol=1e-7))  # pyright: ignore[reportArgumentType]
