"""Tables as a reader gets them: a number that cannot be given is null, never NaN."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from moeaudit.frames import Frame


def nullable(
    table: Frame,
    whole: Collection[str] = (),
    text: Collection[str] = (),
    numbers: Collection[str] | None = None,
) -> Frame:
    """Columns in `whole` as Int64, `numbers` (every other float column if None) as Float64, and
    `text` with None where nothing is said. Changes `table`, and returns it."""
    for name in table.columns:
        floats = pd.api.types.is_float_dtype(table[name])
        if name in whole:
            table[name] = table[name].astype("Float64").astype("Int64")
        elif name in text:
            table[name] = table[name].astype(object).where(table[name].notna(), None)
        elif floats if numbers is None else name in numbers:
            values = table[name].to_numpy(np.float64, na_value=np.nan)
            table[name] = pd.array(values, dtype="Float64")
            table[name] = table[name].mask(np.isnan(values))
    return table
