"""Which claims of an audit speak of other domains than its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.frames import Frame

from ..ranking.table import QUESTION as ACROSS
from ..sizes import equivalence

LIKE_THESE = "domains like these"
CLAIMS = (equivalence.PREDICTIVE, equivalence.REVERSED, equivalence.OPEN, equivalence.BELOW)
KEYS = ["question", "outcome", "metric", "layer"]


def supported(tests: Any, across: Any, shift: Any, alpha: float | int = 0.05) -> Frame:
    """The tests, with `supports` raised to "domains like these" where four things hold.

    1. The row is a claim of an effect about the experts of a layer: its verdict is predictive, reversed,
       "present, size open" or "present but below", and `supports` is "experts of this layer" (or null
       where a table does not say whom its verdicts speak of; those of the ranking shuffle experts).
    2. The interval for a new domain (`across_domains`: `new_low`, `new_high`) lies on the side of the
       estimate: the domains of the audit, as a sample, do not leave the sign open.
    3. The same row of the shift table, from documents of domains that the audit did not have, is such a
       claim of the same sign, corrected over that table's own family.
    4. Domains taken as the units, their mean differs from zero (`p_mean_holm` <= alpha).

    Without the second and third a claim is about the mixture of domains that was read. Parameters are
    the tables of a run: `tests`, `across_domains` and `shift.tests`.
    """
    table: Frame = tests.copy()
    table.attrs = dict(getattr(tests, "attrs", {}))
    if "role" not in table or "role" not in shift or "supports" not in table:
        return table  # nothing was tested
    new: Frame = across.set_index(KEYS)[["new_low", "new_high", "p_mean_holm"]]
    other: Frame = shift.set_index(KEYS)
    for i in np.flatnonzero((table["role"] == "metric") & table["verdict"].isin(CLAIMS)):
        row = table.iloc[i]
        key = tuple(row[k] for k in KEYS)
        name = "rho" if row["question"] == ACROSS else "d_z"
        whom = row["supports"]
        of_layer = whom == equivalence.THE_LAYER or bool(pd.isna(whom))
        if not of_layer or key not in new.index or key not in other.index:
            continue
        sign, there = np.sign(row[name]), other.loc[key]
        low, high, p = new.loc[key].to_numpy(float, na_value=np.nan)  # no comparison holds of NaN
        sure = bool(p <= alpha and (low > 0 if sign > 0 else high < 0))
        held = there["verdict"] in CLAIMS and np.sign(there[name]) == sign
        known = there["supports"] if "supports" in other else None
        if sure and held and (known == equivalence.THE_LAYER or bool(pd.isna(known))):
            table.loc[table.index[i], "supports"] = LIKE_THESE
    return table
