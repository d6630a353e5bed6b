"""How large a rank correlation with the harm itself is: tests with documents, experts and the ceiling unknown.

The correlation seen is that with the harm itself times the ceiling, so rho / ceiling is held against a
bound; and three things are known with limits only. Documents: rho -+ t se. Experts, of which a layer has
few: Fisher's z. Each side's reaches are joined by the root of their squares, as the contrast's crossed
limits are; the harm's noise is in both, so they are rather too long. The ceiling: the limit nearer zero
is divided by the ceiling's upper limit, the other by its lower one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from ..contrast.protocol import Protocol
from ..contrast.table import sized
from ..sizes.beyond import p_beyond, p_within
from ..sizes.limits import Spread, jackknife_se, limits_of, tost_p
from .attenuation import Attenuation
from .correlation import standard_ranks

NO_CEILING = (
    "the ceiling is not shown to be above zero, so a size with noise taken off has no limits"
)
COLUMNS = ("rho_true_crossed_low", "rho_true_crossed_high", "no_crossed")


@dataclass(frozen=True)
class OverRanked:
    """Experts as a sample: Fisher's z of a rank correlation, its standard error, and how many there are."""

    z: float
    se: float
    experts: int

    @classmethod
    def of(cls, x: Float[np.ndarray, " experts"], y: Float[np.ndarray, " experts"]) -> OverRanked:
        """`se` is the larger of sqrt((1 + rho^2 / 2) / (n - 3)), right for normal values (Bonett & Wright
        2000), and of the jackknife over experts, which sees where a few of them carry the correlation."""
        n = len(x)
        rho = float(standard_ranks(x[None])[0] @ standard_ranks(y[None])[0])
        kept = ~np.eye(n, dtype=bool)
        left = [np.broadcast_to(v, (n, n))[kept].reshape(n, n - 1) for v in (x, y)]
        again = _z((standard_ranks(left[0]) * standard_ranks(left[1])).sum(axis=1), n - 1)
        spread = jackknife_se(again) if np.isfinite(again).all() else math.inf
        return cls(float(_z(rho, n)), max(math.sqrt((1 + rho**2 / 2) / (n - 3)), spread), n)

    def around(
        self, rho: float, low: float, high: float, level: float | int
    ) -> tuple[float, float]:
        """Limits by document, each side lengthened by the experts' part (Student's t on experts - 1)."""
        reach = float(scipy.stats.t.isf((1 - level) / 2, self.experts - 1)) * self.se
        down, up = rho - math.tanh(self.z - reach), math.tanh(self.z + reach) - rho
        down, up = max(down, 0.0), max(up, 0.0)
        return rho - math.hypot(rho - low, down), rho + math.hypot(high - rho, up)


@dataclass(frozen=True)
class Size:
    """What is known of a correlation's size. `se` of the correlation seen is over documents."""

    rho: float
    se: float
    documents: int
    experts: OverRanked
    noise: Attenuation

    @property
    def known(self) -> bool:
        """Whether the ceiling is shown to be above zero; else the size stays open."""
        return bool(self.noise.known and self.noise.ceiling_limits[0] > 0 and self.se > 0)

    @property
    def _spread(self) -> Spread:
        return Spread(self.se, float(self.documents - 1), 0.0, self.documents)

    def crossed_limits(self, level: float | int) -> tuple[float, float]:
        """Limits of the correlation with the harm itself, held within [-1, 1]; NaN if not `known`."""
        if not self.known:
            return math.nan, math.nan
        low, high = limits_of(self.rho, self._spread, level)
        low, high = self.experts.around(self.rho, low, high, level)
        below, above = self.noise.ceiling_limits
        low, high = low / (above if low > 0 else below), high / (above if high < 0 else below)
        return max(low, -1.0), min(high, 1.0)

    def beyond(self, bound: float) -> tuple[float, float]:
        """p that |rho_true| is above the bound, with experts as a sample, and by documents alone; NaN if
        not `known`."""
        if not self.known:
            return math.nan, math.nan
        seen = bound * self.noise.ceiling_limits[1]
        return (
            p_beyond(self.rho, self._spread, seen, around=self.experts.around),
            p_beyond(self.rho, self._spread, seen),
        )

    def within(self, bound: float) -> tuple[float, float]:
        """p that |rho_true| is below the bound, with experts as a sample, and by documents alone; 1 if not
        `known`: nothing is shown to be small."""
        if not self.known:
            return 1.0, 1.0
        seen = bound * self.noise.ceiling_limits[0]
        return (
            p_within(self.rho, self._spread, seen, around=self.experts.around),
            tost_p(self.rho, self._spread, seen),
        )

    def columns(self, level: float | int) -> dict[str, Any]:
        """The columns of `COLUMNS`."""
        return dict(zip(COLUMNS, (*self.crossed_limits(level), None if self.known else NO_CEILING)))


def size_columns(
    family: Sequence[Size | None], sesoi: float | int, recipe: Protocol
) -> dict[str, np.ndarray]:
    """Whether each cell of a family lies beyond the bound or within it: `p_tost` and `p_tost_crossed` of each,
    and corrected `p_beyond`, `p_beyond_these`, `p_equivalence`, `p_equivalence_crossed`. NaN for None."""
    names = ("p_beyond", "p_beyond_these", "p_tost_crossed", "p_tost")
    p = {name: np.full(len(family), np.nan) for name in names}
    for i, size in enumerate(family):
        if size is not None:
            for name, value in zip(names, (*size.beyond(sesoi), *size.within(sesoi))):
                p[name][i] = value
    return p | sized(p, recipe)


def _z(rho: Any, n: int) -> Any:
    """Fisher's z; where n ranks agree to the last one, of half a step before that (a swap of neighbours
    changes rho by 12 / (n^3 - n))."""
    most = 1 - 6 / (n**3 - n)
    return np.arctanh(np.clip(rho, -most, most))
