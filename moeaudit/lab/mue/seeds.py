"""Means over seeds with Student's limits."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.stats.clustered import Clustered


def over_seeds(table: Frame, by: Sequence[str], values: Sequence[str]) -> Frame:
    """`by`, seeds, and per value its mean with 95 % limits over seeds, null for fewer than two."""
    found = Clustered(by=list(by), values=list(values), cluster="seed")(table)
    return pd.DataFrame(found.rename(columns={"documents": "seeds"}).drop(columns="rows"))
