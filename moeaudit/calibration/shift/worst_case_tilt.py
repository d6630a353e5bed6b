r"""The worst mean over reweightings at bounded KL: the exponential tilt, in closed form.

    max_q sum_s q_s g_s  with  KL(q || pi) <= rho   is reached by   q_s ~ pi_s exp(b g_s)

with b > 0 such that KL(q || pi) = rho (the dual of Donsker & Varadhan's formula); once rho reaches
-log pi(argmax g) all mass is on the largest g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from moeaudit.errors import InputError


@dataclass(frozen=True)
class Tilt:
    """The worst mean, the mix that reaches it, the multiplier b and the KL of the mix (nats)."""

    value: float
    mix: Float[np.ndarray, " configurations"]
    multiplier: float
    kl: float


def worst_mean(
    mass: Float[np.ndarray, " configurations"],
    gap: Float[np.ndarray, " configurations"],
    radius: float | int,
) -> Tilt:
    """The largest sum_s q_s gap_s over mixes q with KL(q || mass) <= radius (nats).

    For the smallest, negate the gaps and the value. Raises InputError for a radius that is not
    positive, and for masses that are not a distribution.
    """
    check_radius(radius)
    pi = np.asarray(mass, dtype=np.float64)
    if len(pi) == 0 or len(pi) != len(gap) or (pi < 0).any() or not np.isclose(pi.sum(), 1):
        raise InputError(
            "Shares of configurations must be as many as their gaps, not negative, and add up to 1."
        )
    pi = pi / pi.sum()
    present = pi > 0
    g = np.where(present, gap, -np.inf)
    top = g.max()
    ties = g >= top - 1e-15
    if -np.log(pi[ties].sum()) <= radius:
        q = np.where(ties, pi, 0.0) / pi[ties].sum()
        return Tilt(float(top), q, float("inf"), _kl(q, pi))
    spread = top - g[present].min()
    centred = np.where(present, (gap - top) / spread, 0.0)  # in [-1, 0]

    def tilted(b: float) -> np.ndarray:
        q = pi * np.exp(b * centred)
        return q / q.sum()

    high = 1.0
    while _kl(tilted(high), pi) < radius:  # ends: the KL tends to -log pi(ties) > radius
        high *= 2
    # Without full_output brentq gives a number; its stub does not say so.
    b: Any = brentq(lambda b: _kl(tilted(b), pi) - radius, 0.0, high, xtol=1e-13)
    q = tilted(float(b))
    return Tilt(float(q @ np.where(present, gap, 0.0)), q, float(b) / spread, _kl(q, pi))


def worst_means(
    mass: Float[np.ndarray, "draws configurations"],
    gap: Float[np.ndarray, "draws configurations"],
    radius: float | int,
) -> Float[np.ndarray, " draws"]:
    """`worst_mean` of many draws at once, by bisection; only the values."""
    present = mass > 0
    top = np.where(present, gap, -np.inf).max(axis=1, keepdims=True)
    lowest = np.where(present, gap, np.inf).min(axis=1, keepdims=True)
    spread = np.where(top > lowest, top - lowest, 1.0)
    centred = np.where(present, (gap - top) / spread, 0.0)
    at_top = np.where(present & (gap >= top - 1e-15), mass, 0.0).sum(axis=1)
    free = -np.log(at_top) > radius
    out = top[:, 0].copy()
    pi, c = mass[free], centred[free]
    # KL of the tilt: b E_q[c] - log sum pi exp(b c); it grows with b.
    low, high = np.full(len(pi), -30.0), np.full(len(pi), 60.0)  # logs of b
    q = pi
    for _ in range(70):
        middle = (low + high) / 2
        b = np.exp(middle)[:, None]
        q = pi * np.exp(b * c)
        total = q.sum(axis=1, keepdims=True)
        q = q / total
        kl = b[:, 0] * (q * c).sum(axis=1) - np.log(total[:, 0])
        low, high = np.where(kl < radius, middle, low), np.where(kl < radius, high, middle)
    out[free] += spread[free, 0] * (q * c).sum(axis=1)
    return out


def _kl(q: np.ndarray, pi: np.ndarray) -> float:
    inside = q > 0
    return float((q[inside] * np.log(q[inside] / pi[inside])).sum())


def check_radius(radius: float | int) -> None:
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(
            f"The KL radius {radius} must be positive and finite (nats): at 0 the only mix is "
            "today's, whose signed gap is already in the scores."
        )
