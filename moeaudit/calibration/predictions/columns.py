"""Columns of predictions: how they are read, and what is refused with the row it stands in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError


def numbers(values: Any, name: str) -> np.ndarray:
    try:
        if isinstance(values, pd.Series | pd.Index):
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"The {name} cannot be read as numbers: {error}.") from error


_WORDS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0}


def truth(values: Any) -> np.ndarray:
    """Booleans from booleans, 0/1, or the words true/false, yes/no."""
    array = values.to_numpy() if isinstance(values, pd.Series) else np.asarray(values)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        words = pd.Series(array.reshape(-1)).astype(str).str.strip().str.lower()
        array = words.map(_WORDS).to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isin(array, (0, 1))
    if bad.any():
        raise InputError(
            f"The column of correctness holds {int(bad.sum()):,} value(s) that are neither true nor "
            f"false, the first in row {int(np.flatnonzero(bad)[0]):,}. Give true/false or 1/0; a "
            "missing value must be dropped by you, knowingly."
        )
    return array.astype(bool)


def lengths(n: int, columns: dict[str, np.ndarray | None]) -> None:
    for name, value in columns.items():
        if value is not None and len(value) != n:
            raise InputError(
                f"There are {n:,} confidences and {len(value):,} values of {name}; every "
                "prediction needs one of each."
            )


def inside(values: np.ndarray, name: str) -> None:
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        where = np.argwhere(bad)[0]
        raise InputError(
            f"{int(bad.sum()):,} of {bad.size:,} values of {name} are not in [0, 1], the first in "
            f"row {int(where[0]):,} ({values[tuple(where)]}). It must be a probability: percentages "
            "are to be divided by 100, logits and log-probabilities transformed, missing values "
            "dropped by you, knowingly."
        )


def check_weights(weight: np.ndarray) -> None:
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        raise InputError(
            f"{int(bad.sum()):,} weight(s) are negative, NaN or infinite, the first in row "
            f"{int(np.flatnonzero(bad)[0]):,}. Weights must be finite and at least 0."
        )
    if not weight.any():
        raise InputError(
            "All weights are zero, so no prediction counts. A domain classifier that separates "
            "source and target perfectly does this: there is no overlap to weight."
        )


def check_classes(probabilities: np.ndarray, label: np.ndarray) -> None:
    inside(probabilities, "probabilities")
    classes = probabilities.shape[1]
    if classes < 2:
        raise InputError("Probabilities over a single class leave nothing to be right about.")
    outside = (label < 0) | (label >= classes)
    if outside.any():
        raise InputError(
            f"{int(outside.sum()):,} label(s) are not among the {classes} classes 0 to "
            f"{classes - 1}, the first in row {int(np.flatnonzero(outside)[0]):,}."
        )
    off = np.abs(probabilities.sum(axis=1) - 1)
    if off.max() > 1e-3:
        raise InputError(
            f"The probabilities of row {int(off.argmax()):,} add up to "
            f"{probabilities[off.argmax()].sum():.4f}; each row must add up to 1."
        )
