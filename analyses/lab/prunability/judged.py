"""How well each way of forecasting does on recipes that it was not learnt from."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moeaudit.pruning.forecast import SIGNS
from moeaudit.pruning.forecast.fit import left_out, trust

BASE = "the mean of other recipes"
CONFIG = "loss, experts, top-k (no census)"
WHOLE = "all signs of the census"


def ways(table: Any) -> dict[str, list[str]]:
    """What a forecast may look at, by its name; the first knows nothing of the model."""
    usable = [name for name in SIGNS if not table[name].isna().any()]
    return {
        BASE: [],
        CONFIG: ["clean_nll", "experts", "top_k"],
        WHOLE: usable,
        "both": [*usable, "clean_nll", "experts", "top_k"],
        **{f"{name} alone": [name] for name in usable},
    }


def judged(table: Any, targets: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(one row a target and way of forecasting, one row a target and model: what was forecast and what was lost)."""
    scores, told = [], []
    for target, said in targets.items():
        base = left_out(table, target, [])
        for way, columns in ways(table).items():
            found: Any = left_out(table, target, columns)
            scores.append({"target": said, "way": way, "signs": len(columns), **trust(found, base)})
            if way in (BASE, WHOLE):
                told.append(found.assign(target=said, way=way, seed=table["seed"].to_numpy()))
    return pd.DataFrame(scores), pd.concat(told, ignore_index=True)
