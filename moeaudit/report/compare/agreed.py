"""Do two runs come to the same verdicts on routing metrics? Counts, not tests: of what each said by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.runs.analysis import NOT_TESTED
from moeaudit.stats.sizes.equivalence import SHOWN
from moeaudit.store.differences import told

from .pairs import Pair

KEYS = ["question", "outcome", "metric", "layer"]
# Verdicts of another recipe answer another question; other metric documents give other metrics, which is said.
RECIPE = {"protocol", "sesoi", "alpha"}


def verdicts(pairs: Sequence[Pair]) -> tuple[Frame, list[str]]:
    """One row per pair and tested cell that both have: `verdict_a`, `verdict_b`, `estimate_a`, `estimate_b` (d_z
    within a token, rho across experts); and why cells or pairs are not there."""
    out, why = [], []
    for pair in pairs:
        names = f"{pair.a.letter} and {pair.b.letter}"
        recipe = [each for each in pair.asked.tests if each[0] in RECIPE]
        if recipe:
            places = f"in {pair.a.letter}", f"in {pair.b.letter}"
            why.append(f"Verdicts on routing metrics of {names}: {told(recipe, *places)}.")
            continue
        if not pair.layers:
            why.append(
                f"Verdicts on routing metrics of {names}: their layers are not the same places."
            )
            continue
        sides = [_tests(pair.a), _tests(pair.b)]
        if any(side.empty for side in sides):
            why.append(f"Verdicts on routing metrics of {names}: a run has tested none.")
            continue
        both = sides[0].merge(sides[1], on=KEYS, suffixes=("_a", "_b"))
        only = len(sides[0]) + len(sides[1]) - 2 * len(both)
        if only:
            why.append(f"{only} tested cells of {names}, which only one of them has.")
        both.insert(0, "a", pair.a.letter)
        both.insert(1, "b", pair.b.letter)
        out.append(both)
    return (pd.concat(out, ignore_index=True) if out else pd.DataFrame()), why


def _tests(side) -> Frame:
    table: Frame = side.run.tests
    if not {*KEYS, "verdict", "role"} <= set(table.columns):
        return pd.DataFrame(columns=[*KEYS, "verdict", "estimate"])
    table = table[(table["role"] == "metric") & (table["question"] != NOT_TESTED)]
    estimate = pd.Series(np.nan, index=table.index)
    for column in ("rho", "d_z"):
        if column in table:
            values = table[column].astype("Float64").to_numpy(float, na_value=np.nan)
            estimate = estimate.where(np.isnan(values), values)
    return table[[*KEYS, "verdict"]].assign(estimate=estimate).reset_index(drop=True)


def counted(table: Frame) -> Frame:
    """How often verdicts are the same: one row per pair, question and outcome.

    `shown_a`, `shown_b`: cells with an effect shown; `shown_both`, and `opposite` of those: the signs differ.
    """
    if table.empty:
        return table
    shown = {side: table[f"verdict_{side}"].isin(SHOWN) for side in "ab"}
    both = shown["a"] & shown["b"]
    signs = np.sign(table["estimate_a"]) * np.sign(table["estimate_b"])
    made = table.assign(
        cells=1,
        same=table["verdict_a"] == table["verdict_b"],
        shown_a=shown["a"],
        shown_b=shown["b"],
        shown_both=both,
        opposite=both & (signs < 0),
    )
    names = ["cells", "same", "shown_a", "shown_b", "shown_both", "opposite"]
    groups = made.groupby(["a", "b", "question", "outcome"], sort=False, observed=True)
    return groups[names].sum().astype(int).reset_index()
