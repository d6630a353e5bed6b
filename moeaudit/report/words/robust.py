"""What heavy tails do to d_z: how much of it is a few tokens, and what sizes say that they do not move."""

from __future__ import annotations

import numpy as np

from moeaudit.frames import Column as Series
from moeaudit.frames import Frame

from .evidence import Evidence, metric_name
from .numbers import estimate, fixed, percent, plural

# Of the variance, by the largest 1 % of tokens: .085 if differences were normal.
HEAVY = 0.25
APART = 2.0  # times


def tails(evidence: Evidence, outcome: str) -> str | None:
    """A sentence on the robust sizes of an outcome; None where tails are light, or they were not measured."""
    rows = evidence.metrics(outcome)
    if "winsorised_d_z" not in rows:
        return None
    rows = rows[rows["d_z"].notna() & rows["winsorised_d_z"].notna()]
    if rows.empty or not (share := float(rows["top_share"].median())) >= HEAVY:
        return None
    best = rows.loc[rows["winsorised_d_z"].abs().idxmax()]
    text = (
        f"the largest 1% of tokens carry {percent(share, 0)} (median cell) of the variance that d_z divides by; with "
        f"the outer 5% a side drawn in, sizes reach {_winsorised(best)} in {_where(best)}"
    )
    against, larger = rows[opposite(rows)], rows[apart(rows)]
    if len(larger):
        text += f"; in {plural(len(larger), 'contrast')} that size is more than twice d_z, intervals apart"
    if len(against):
        worst = against.loc[against["rank_biserial"].abs().idxmax()]
        text += (
            f"; in {plural(len(against), 'contrast')} most tokens lean one way and the mean the other "
            f"({_where(worst)}: d_z {fixed(worst['d_z'], 3, True)}, rank-biserial "
            f"{fixed(worst['rank_biserial'], 3, True)})"
        )
    return text


def opposite(rows: Frame) -> Series:
    """d_z and a robust size (winsorised, or rank-biserial) both exclude zero, on opposite sides."""
    out = np.zeros(len(rows), dtype=bool)
    for name in ("winsorised_d_z", "rank_biserial"):
        low, high = rows[f"{name}_low"], rows[f"{name}_high"]
        out |= ((rows["low"] > 0) & (high < 0)) | ((rows["high"] < 0) & (low > 0))
    return out


def apart(rows: Frame) -> Series:
    """The winsorised size is on d_z's side, more than twice as large, and their intervals do not meet."""
    d, w = rows["d_z"], rows["winsorised_d_z"]
    meet = (rows["low"] <= rows["winsorised_d_z_high"]) & (
        rows["winsorised_d_z_low"] <= rows["high"]
    )
    return (d * w > 0) & (w.abs() > APART * d.abs()) & ~meet


def _winsorised(row: Series) -> str:
    return estimate(row["winsorised_d_z"], row["winsorised_d_z_low"], row["winsorised_d_z_high"])


def _where(row: Series) -> str:
    return f"{metric_name(row['metric'])[0]} in layer {row['layer']}"
