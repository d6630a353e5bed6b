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


def fragile(table: Any, targets: dict[str, str]) -> dict[str, dict[str, Any]]:
    """By target, the recipe without which all signs are worth the least, and what they are worth there: a gain that one
    recipe makes is none of the signs' own."""
    signs = ways(table)[WHOLE]
    out = {}
    for target in targets:
        found = []
        for name in sorted(set(table["recipe"])):
            rest = table[table["recipe"] != name]
            told = trust(left_out(rest, target, signs), left_out(rest, target, []))
            found.append(
                {"recipe": name, **{k: told[k] for k in ("gain", "gain_low", "gain_high")}}
            )
        out[target] = min(found, key=lambda each: each["gain_low"])
    return out


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
