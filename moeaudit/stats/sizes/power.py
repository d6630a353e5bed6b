"""What a cell could have found: its minimum detectable effect, and the n that would decide it.

All in units of the effect size (d_z), through its cluster-robust standard error at no effect. These
are planning figures: they use the design (how many documents, how they cluster), never the effect
that was observed, since power at the observed effect only restates its p.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import scipy

from ..contrast.checks import fraction, positive
from .bounds import Bound


def power_t(effect: float | int, se: float, dof: float, alpha: float | int) -> float:
    """Power of a two-sided t test: P(|T| > t_crit), T noncentral t with effect / se."""
    crit = scipy.stats.t.isf(alpha / 2, dof)
    shift = effect / se
    value = scipy.stats.nct.sf(crit, dof, shift) + scipy.stats.nct.cdf(-crit, dof, shift)
    if not np.isfinite(value):  # scipy's nct fails far out, where power is 1 to any precision
        value = scipy.stats.norm.sf(crit - shift) + scipy.stats.norm.cdf(-crit - shift)
    return float(value)


def power_tost(sesoi: float | int, se: float, dof: float, alpha: float | int) -> float:
    """Power of TOST when the true effect is zero: P(|T| < sesoi / se - t_crit), T central t.

    Phillips (1990) with the standard error treated as independent of the estimate, as in his
    large-sample form; 0 where the bound is below the critical value.
    """
    room = sesoi / se - scipy.stats.t.isf(alpha, dof)
    return float(max(0.0, 1 - 2 * scipy.stats.t.sf(room, dof))) if room > 0 else 0.0


def minimum_detectable(
    se: float, dof: float, alpha: float | int, power: float | int = 0.8
) -> float:
    """The smallest true effect found with the given power by a two-sided test at level alpha."""
    fraction(alpha, "alpha")
    fraction(power, "power")
    positive(se, "The standard error")
    if alpha >= power:
        return 0.0
    upper = float(scipy.stats.t.isf(alpha / 2, dof) + scipy.stats.t.isf((1 - power) / 2, dof)) * se
    while power_t(upper, se, dof, alpha) < power:
        upper *= 2

    def lack(effect: Any) -> float:
        return power_t(float(effect), se, dof, alpha) - power

    return float(scipy.optimize.brentq(lack, 0.0, upper))  # pyright: ignore[reportArgumentType]


def documents_to_decide(
    se: float,
    n_documents: int,
    sesoi: float | int,
    alpha_effect: float,
    alpha_equivalence: float,
    power: float | int = 0.8,
) -> int:
    """Documents, of the kind seen, that decide a cell whichever way the truth lies.

    The smallest D at which an effect of `sesoi` is found with `power` (two-sided, `alpha_effect`)
    and no effect is shown equivalent with `power` (TOST, `alpha_equivalence`). The standard error
    is taken to fall with the square root of the number of documents.
    """
    positive(sesoi, "SESOI")
    fraction(power, "power")

    def decides(documents: int) -> bool:
        scaled, dof = se * math.sqrt(n_documents / documents), float(documents - 1)
        return (
            power_t(sesoi, scaled, dof, alpha_effect) >= power
            and power_tost(sesoi, scaled, dof, alpha_equivalence) >= power
        )

    low, high = 1, 2
    while not decides(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def documents_for(
    cells: pd.DataFrame, bound: Bound, mean: float, alpha: float, power: float | int = 0.8
) -> pd.DataFrame:
    """Documents that decide each of a pilot's cells: metric, sesoi (d_z), sesoi_nats, documents.

    `cells` are rows of `contrast` from one layer, `mean` that layer's mean outcome (for a bound that is
    a share of it). The deviation of a token is sesoi_nats / sesoi, the standard error at no effect
    that of a mean with the cell's design effect, and the level of a cell alpha over the family's size.
    """
    fraction(alpha, "alpha")
    rows = []
    names = ("sesoi_nats", "sesoi", "n", "design_effect", "n_documents")
    for cell in cells.to_dict("records"):
        nats, d_z, n, design, documents = (float(cell[name]) for name in names)
        size, of_nats = bound.sizes(nats / d_z, mean)
        if not (size > 0 and design > 0):
            continue
        level = alpha / int(cell["family_size"])
        se = math.sqrt(design / n)
        needed = documents_to_decide(se, int(documents), size, level, level, power)
        rows.append((cell["metric"], size, of_nats, needed))
    return pd.DataFrame(rows, columns=["metric", "sesoi", "sesoi_nats", "documents"])
