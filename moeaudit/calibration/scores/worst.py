"""The worst group's limits and nulls: what each group leaves behind for the multicalibration error."""

from __future__ import annotations

from typing import Any

import numpy as np

from .intervals import norm_limits, reached
from .points.kuiper import CumulativeNorm, kuiper, kuiper_sigma
from .points.multicalibration import WorstRange, side_by_side
from .stratum import Stratum, share

_MOST_COLUMNS = 8192


class Worst:
    """Collects the groups' cumulative differences in units of their sigma, then compares them.

    The groups share their document resamples and sign flips, so what they owe to the same documents stays
    together; outcomes of different groups are drawn apart, as different predictions are.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma
        self.ratios: list[float] = []
        self.left_out = 0
        self._parts: dict[str, list[np.ndarray]] = {"seen": [], "noise": [], "flip": [], "null": []}
        self._documents = self._limits = True

    def add(self, part: Stratum) -> None:
        """Take a group in, or count it as left out."""
        sigma = 0.0 if part.p.lack(documents=1) else kuiper_sigma(part.p)
        if not sigma > 0:
            self.left_out += 1
            return
        norm = CumulativeNorm()
        mass, residual = part.shares
        seen = norm.features(mass, residual) / sigma
        self.ratios.append(kuiper(part.p) / sigma)
        self._parts["seen"].append(seen)
        self._parts["null"].append(norm.features(part.null, part.null) / np.float32(sigma))
        self._documents &= part.why_no_limits() is None
        self._limits &= part.why_no_resampling() is None
        if self._limits:
            drawn = norm.features(*part.drawn) / np.float32(sigma)
            noise = (drawn - seen.astype(np.float32)) * np.float32(part.wider)
            self._parts["noise"].append(noise)
        if self._documents:
            flips = norm.features(part.flipped, part.flipped) / np.float32(sigma)
            self._parts["flip"].append(flips)

    def row(self, level: float) -> dict[str, Any]:
        """The row of the table."""
        row: dict[str, Any] = {"score": "multicalibration"}
        if not self.ratios:
            return row | {"reason": "not estimable: no group is large enough to be scored"}
        seen, starts = side_by_side(self._parts["seen"], _MOST_COLUMNS)
        norm = WorstRange(starts, self.sigma)
        inner = float(norm.value(seen))
        null, _ = side_by_side(self._parts["null"], _MOST_COLUMNS)
        sizes = norm.value(null)
        row |= {"value": max(self.ratios) * self.sigma, "null_mean": sizes.mean()}
        row |= {"null_high": np.quantile(sizes, level), "p": share(reached(norm, null, inner))}
        reasons = []
        if self.left_out:
            reasons.append(f"{self.left_out} group(s) left out: too small, or certain throughout")
        if self._limits:
            noise, _ = side_by_side(self._parts["noise"], _MOST_COLUMNS)
            row["low"], row["high"] = norm_limits(norm, seen, noise, level)
        elif self._documents:
            reasons.append("no limits: a group has too few errors or right answers to resample")
        if self._documents:
            fewest = min(map(len, self._parts["flip"]))  # fewer outcomes are drawn of large groups
            flips, _ = side_by_side([f[:fewest] for f in self._parts["flip"]], _MOST_COLUMNS)
            row["p_documents"] = share(reached(norm, flips, inner))
        else:
            reasons.append("no limits: a group has too few documents")
        return row | {"reason": "; ".join(reasons) or None}
