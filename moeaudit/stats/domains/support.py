"""Which claims of an audit speak of other domains than its own: of their sign, not of their size."""

from __future__ import annotations

from typing import Any

import numpy as np

from moeaudit.frames import Frame

from ..ranking.table import QUESTION as ACROSS
from ..sizes import equivalence

KEYS = ["question", "outcome", "metric", "layer"]


def supported(tests: Any, across: Any, shift: Any, alpha: float | int = 0.05) -> Frame:
    """The tests, with `supports` raised to "domains like these" where four things hold.

    1. The row is a claim of an effect about the experts of a layer: its verdict is predictive, reversed,
       "present, size open" or "present but below", and `supports` is "experts of this layer".
    2. The interval for a new domain (`across_domains`: `new_low`, `new_high`) lies on the side of the
       estimate: the domains of the audit, as a sample, do not leave the sign open.
    3. The same row of the shift table, from documents of domains that the audit did not have, is such a
       claim of the same sign, corrected over that table's own family.
    4. Domains taken as the units, their mean differs from zero (`p_mean_holm` <= alpha).

    It is the **sign** that is claimed of domains like these, and nothing of the size: no part of this asks
    that the effect in a new domain be above or below the smallest effect of interest, and the word of the
    verdict ("predictive", "present but below") stays one about the mixture of domains that was read.
    Without the second and third the sign, too, is known of that mixture only. Parameters are
    the tables of a run: `tests`, `across_domains` and `shift.tests`.
    """
    table: Frame = tests.copy()
    table.attrs = dict(getattr(tests, "attrs", {}))
    if (
        "role" not in table
        or "role" not in shift
        or "supports" not in table
        or "supports" not in shift
    ):
        return table  # nothing was tested
    new: Frame = across.set_index(KEYS)[["new_low", "new_high", "p_mean_holm"]]
    other: Frame = shift.set_index(KEYS)
    for i in np.flatnonzero((table["role"] == "metric") & table["verdict"].isin(equivalence.SHOWN)):
        row = table.iloc[i]
        key = tuple(row[k] for k in KEYS)
        name = "rho" if row["question"] == ACROSS else "d_z"
        if (
            row["supports"] != equivalence.THE_LAYER
            or key not in new.index
            or key not in other.index
        ):
            continue
        sign, there = np.sign(row[name]), other.loc[key]
        low, high, p = new.loc[key].to_numpy(float, na_value=np.nan)  # no comparison holds of NaN
        sure = bool(p <= alpha and (low > 0 if sign > 0 else high < 0))
        held = there["verdict"] in equivalence.SHOWN and np.sign(there[name]) == sign
        if sure and held and there["supports"] == equivalence.THE_LAYER:
            table.loc[table.index[i], "supports"] = equivalence.LIKE_THESE
    return table
