"""Calibration in every given group at once: the worst group, on the scale of its own noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from moeaudit.errors import InputError

from ...predictions.predictions import Predictions
from .kuiper import kuiper, kuiper_sigma


@dataclass(frozen=True)
class WorstRange:
    """max over groups of ECCE_g / sigma_g, times the sigma of all predictions together.

    Guy, Haimovich, Linder, Okati, Perini, Tax & Tygert (2025), arXiv 2506.11251: scaling by sigma_g keeps
    a small group's noise from winning. Features are the groups' cumulative differences, each divided by
    its sigma_g, side by side; `starts` are their first columns.
    """

    starts: Int[np.ndarray, " groups"]
    scale: float

    def features(
        self, mass: Float[np.ndarray, "*draws cells"], residual: Float[np.ndarray, "*draws cells"]
    ) -> Float[np.ndarray, "*draws cells"]:
        del mass
        return residual  # made by the groups' own norms

    def value(self, features: Float[np.ndarray, "*draws cells"]) -> Float[np.ndarray, "*draws"]:
        top = np.maximum(np.maximum.reduceat(features, self.starts, axis=-1), 0)
        bottom = np.minimum(np.minimum.reduceat(features, self.starts, axis=-1), 0)
        return np.asarray(self.scale * (top - bottom).max(axis=-1), np.float64)

    def reaches(
        self, features: Float[np.ndarray, "draws cells"], score: float
    ) -> Bool[np.ndarray, " draws"]:
        return self.value(features) >= score


def side_by_side(
    parts: list[np.ndarray], most: int
) -> tuple[np.ndarray, Int[np.ndarray, " groups"]]:
    """The groups' cumulative differences in one array of at most about `most` columns.

    Where there are too many, evenly spread columns stand for all: cumulative sums move little between
    neighbouring cells.
    """
    each = max(32, most // len(parts))
    thin = []
    for part in parts:
        size = part.shape[-1]
        columns = np.unique(np.linspace(0, size - 1, min(each, size)).round().astype(int))
        thin.append(part[..., columns])
    starts = np.cumsum([0, *(t.shape[-1] for t in thin)])[:-1]
    return np.concatenate(thin, axis=-1), starts


def multicalibration_error(p: Predictions) -> float:
    """The multicalibration error over the groups of `p`; groups without chance in them are left out.

    A group in which every confidence is 0 or 1 has sigma 0 and no scale to compare on.
    """
    if p.group is None:
        raise InputError(
            "A multicalibration error needs groups. Give every prediction one (a domain, an expert, "
            "a routing configuration)."
        )
    ratios = []
    for name in p.groups():
        rows = p.group == name
        if rows.any() and p.weights[rows].any():
            part = p.take(rows)
            sigma = kuiper_sigma(part)
            if sigma > 0:
                ratios.append(kuiper(part) / sigma)
    if not ratios:
        raise InputError("No group has a confidence strictly between 0 and 1.")
    return max(ratios) * kuiper_sigma(p)
