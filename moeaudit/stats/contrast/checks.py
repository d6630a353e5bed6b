"""What a table must be before anything is computed from it. Every refusal says which rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, one_of

OUTCOMES = {
    "delta_nll": "harm: signed change of the next token's negative log-likelihood, nats",
    "abs_delta_nll": "disturbance: |delta_nll|, nats",
    "kl": "disturbance: KL(clean || ablated) of the next-token distribution, nats",
    "flip": "disturbance: 1 where the most likely next token changed, else 0",
    "delta_entropy": "change of the entropy of the next-token distribution, nats",
    "delta_confidence": "change of the largest next-token probability",
    "delta_brier": "change of the Brier score over all classes, 0 to 2",
}


def as_frame(table: Any, columns: list[str], name: str) -> pd.DataFrame:
    """`table` as a DataFrame with exactly `columns`.

    Accepts a frame, anything with `to_pandas()` or `read()` that gives one (a folder of effects), and
    anything with `columns` that is indexable by name.
    """
    for method in ("to_pandas", "read"):
        if not isinstance(table, pd.DataFrame) and hasattr(table, method):
            table = getattr(table, method)()
    have = getattr(table, "columns", None)
    if have is None:
        raise InputError(
            f"{name} must be a table with named columns, and this is a {type(table).__name__}. "
            f"Pass a pandas DataFrame with the columns {', '.join(columns)}."
        )
    missing = [c for c in columns if c not in list(have)]
    if missing:
        raise InputError(
            f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. It has "
            f"{', '.join(map(str, have)) or 'none'}; it needs {', '.join(columns)}."
        )
    if isinstance(table, pd.DataFrame):
        return pd.DataFrame(table).loc[:, columns]
    return pd.DataFrame({c: np.asarray(table[c]) for c in columns})


def require_per_expert(effects: Any) -> None:
    """Refuse effects of several questions, and of rows that are not one for each active expert.

    A table that carries no question (read by other means, made by hand) is taken at its word.
    """
    known = getattr(effects, "attrs", {}).get("moeaudit") or {}
    if "mixed" in known:
        raise InputError(
            f"This table joins effects of different questions ({'; '.join(known['mixed'])}), and their sum answers "
            "none of them. Pass the effects of one question."
        )
    if "pi" in getattr(effects, "columns", ()) and isinstance(effects, pd.DataFrame):
        one_probability(effects["pi"].to_numpy(np.float64, na_value=np.nan))
    question = getattr(effects, "question", None)
    if question is not None and not question.per_expert:
        raise InputError(
            f"These are effects of {question}, whose rows are not one for each active expert of a token, so no metric "
            "of experts can be held against them. Use Zero(), Renormalize(), Reroute() or another operator "
            "that is about one expert at a time."
        )


def one_probability(pi: np.ndarray) -> None:
    """Refuse samples in which rows had different chances: no row is weighted here, and means would lean."""
    found = np.unique(pi)
    if len(found) > 1 or not ((found > 0) & (found <= 1)).all():
        raise InputError(
            "The inclusion probabilities (column pi) of these effects are "
            f"{', '.join(f'{x:g}' for x in found[:4])}, and one for all rows, above 0 and up to 1, was expected: "
            "with one, means of the sample are estimates of the census, with several they lean to what was "
            "drawn more often. Pass the effects of one share."
        )


def finite(values: np.ndarray, name: str, rows: str = "rows") -> None:
    """Refuse NaN and infinity: a mean over them is meaningless and dropping them hides a fault."""
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.flatnonzero(bad.reshape(-1))[0])
        raise InputError(
            f"{name} holds {int(bad.sum())} value(s) that are NaN or infinite, the first in "
            f"position {first} of {values.size} {rows}. Effects must be finite; a NaN here comes "
            "from NaN weights or logits in the model. Find its source, or drop those rows yourself "
            "and say so."
        )


def outcome_values(effects: pd.DataFrame, outcome: str) -> np.ndarray:
    """The outcome column as float64, deriving |delta_nll|; refuses unknown names and non-numbers."""
    column = outcome_column(outcome)
    values = effects[column].to_numpy(dtype=np.float64, na_value=np.nan)
    finite(values, f"The column {column} of the effects", "rows")
    return np.abs(values) if outcome.startswith("abs_") else values


def outcome_column(outcome: str) -> str:
    """The effects column an outcome is read from."""
    return one_of(outcome, OUTCOMES, "outcome").removeprefix("abs_")


def positive(value: float | int, name: str) -> float:
    """A setting that must be a positive finite number (a SESOI, a power, a level)."""
    if not np.isfinite(value) or value <= 0:
        raise InputError(
            f"{name} is {value}; it must be a positive number. The smallest effect of interest is "
            "a size below which you would not care, so it cannot be zero or negative."
            if "sesoi" in name.lower()
            else f"{name} is {value}; it must be a positive number."
        )
    return float(value)


def fraction(value: float | int, name: str) -> float:
    """A setting strictly between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name} is {value}; it must lie strictly between 0 and 1.")
    return float(value)


def whole(values: np.ndarray, name: str, least: int | None = None) -> np.ndarray:
    """Whole numbers as int64; refuses missing, fractional and (below `least`) too small ones."""
    numbers = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(numbers) | (numbers != np.round(numbers))
    if least is not None:
        bad |= numbers < least
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{name} holds {int(bad.sum())} value(s) that are not whole numbers"
            f"{'' if least is None else f' from {least} on'}, the first ({numbers[first]}) in row {first}."
        )
    return numbers.astype(np.int64)


def metrics_table(metrics: Any) -> pd.DataFrame:
    """The table of expert metrics (layer, expert, metric, value), checked for doubles.

    A missing value (a metric that is not defined for an expert) stays NaN and is counted later as
    an unscored expert; an infinite one is refused.
    """
    table = as_frame(metrics, ["layer", "expert", "metric", "value"], "The metrics table")
    if table.empty:
        raise InputError("The metrics table has no rows, so there is nothing to contrast.")
    value = table["value"].to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(value).any():
        names = sorted(set(table["metric"][np.isinf(value)].astype(str)))
        raise InputError(f"Infinite values in the metrics {', '.join(names)}; they must be finite.")
    twice = table.duplicated(["layer", "expert", "metric"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"The metrics table gives {int(twice.sum())} (layer, expert, metric) more than once, "
            f"first layer {row['layer']}, expert {row['expert']}, {row['metric']}. One value each."
        )
    return table.assign(value=value)
