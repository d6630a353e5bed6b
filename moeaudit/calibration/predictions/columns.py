"""Columns of predictions: how they are read, and what is refused with the row it stands in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError

from .rows import RowError, first, shown


def one_column(values: Any, name: str) -> np.ndarray:
    """Values as one column; (n, 1) is one, any other table is refused.

    What a list holds stays what it is: numpy alone makes text of `[True, "true"]` and one number of
    `[1, True]`.
    """
    if isinstance(values, pd.DataFrame | pd.Series | pd.Index):
        array = values.to_numpy()
    elif isinstance(values, np.ndarray):
        array = values
    else:
        if hasattr(values, "detach"):  # a tensor, wherever it is
            values = values.detach().cpu().numpy()
        array = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"The {name} has the shape {array.shape}; one value for each prediction is needed, as a "
            "single column."
        )
    return array


def numbers(values: Any, name: str) -> np.ndarray:
    """Float64 of any shape. Raises RowError for the first value that is no number."""
    try:
        if isinstance(values, pd.Series | pd.Index):
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        try:
            column = one_column(values, name)
        except (InputError, ValueError):
            raise InputError(f"The {name} cannot be read as numbers: {error}.") from None
        row = next((i for i, v in enumerate(column) if not is_number(v)), 0)
        value = column[row]
        comma = isinstance(value, str) and is_number(value.replace(",", ".", 1))
        percent = isinstance(value, str) and is_number(value.strip().removesuffix("%"))
        raise RowError(
            f"The {name} cannot be read as numbers, the first in ",
            row,
            f" ({shown(value)})."
            + " Write it with a decimal point." * comma
            + " Write percentages as shares, such as 0.85 for 85%." * percent,
        ) from None


def one_column_of_numbers(values: Any, name: str) -> np.ndarray:
    """`numbers` of one column, (n,)."""
    found = numbers(values, name)
    return one_column(found, name)


def is_number(value: object) -> bool:
    """Whether a value is a number, written as one, or missing."""
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value is None or value is pd.NA
    return True


_TRUE = ("true", "t", "1", "1.0", "yes", "y", "pass", "passed", "correct", "right")
_FALSE = ("false", "f", "0", "0.0", "no", "n", "fail", "failed", "incorrect", "wrong")
_WORDS = dict.fromkeys(_TRUE, 1.0) | dict.fromkeys(_FALSE, 0.0)


def truth(values: Any) -> np.ndarray:
    """Booleans from booleans, 0/1, or words: true/false, T/F, yes/no, Y/N, pass/fail, right/wrong."""
    given = one_column(values, "correctness")
    array = given
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        words = pd.Series(array).map(lambda v: str(v).strip().lower())
        array = words.map(_WORDS).to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isin(array, (0, 1))
    if bad.any():
        raise RowError(
            f"The column of correctness holds {int(bad.sum()):,} value(s) that are neither true nor "
            "false, the first in ",
            first(bad),
            f" ({shown(given[first(bad)])}). Give true/false, T/F, yes/no, pass/fail or 1/0; partial "
            "credit has no calibration, and a missing value must be dropped by you, knowingly.",
        )
    return array.astype(bool)


def classes(values: Any, count: int, name: str = "label") -> np.ndarray:
    """Class numbers, int64 (n,), from whole numbers or the same as text.

    Raises RowError, naming row and value, for fractions, letters and numbers outside 0 to count - 1.
    """
    given = one_column(values, name)
    try:
        number = given.astype(np.float64)
    except (TypeError, ValueError):
        number = np.array([float(v) if is_number(v) else np.nan for v in given.tolist()])
    with np.errstate(invalid="ignore"):
        bad = ~(number == np.floor(number))
    if bad.any():
        raise RowError(
            f"{int(bad.sum()):,} {name}(s) are no class numbers, the first in ",
            first(bad),
            f" ({shown(given[first(bad)])}). A {name} is the place of the true class among the columns "
            f"of probabilities, 0 to {count - 1}; turn letters and names into that first.",
        )
    outside = (number < 0) | (number >= count)
    if outside.any():
        from_one = number.min() >= 1 and number.max() == count
        raise RowError(
            f"{int(outside.sum()):,} {name}(s) are not among the {count} classes (class numbers 0 to "
            f"{count - 1}), the first in ",
            first(outside),
            f" ({shown(given[first(outside)])})."
            + f" They seem to be counted from 1, 1 to {count}: subtract 1." * bool(from_one),
        )
    return number.astype(np.int64)


def named_classes(probabilities: Any, label: Any) -> Any:
    """Labels looked up among the names of a DataFrame's columns, where these are names and no numbers."""
    names = list(probabilities.columns) if isinstance(probabilities, pd.DataFrame) else []
    if names == list(range(len(names))):
        return label
    if any(is_number(name) for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"The columns of probabilities are called {', '.join(map(shown, names))}: labels could be "
            "these or the places 0, 1, ... Give the probabilities as an array (to_numpy()) and the "
            "labels as places, or call the columns by words."
        )
    place = {name: k for k, name in enumerate(names)}
    given = one_column(label, "label")
    if not any(value in place for value in given.tolist()):
        return label
    for row, value in enumerate(given.tolist()):
        if value not in place:
            raise RowError(
                "The label of ",
                row,
                f" is {shown(value)}; the columns are {', '.join(map(shown, names))}.",
            )
    return np.array([place[value] for value in given.tolist()])


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
        value = values[tuple(where)]
        raise RowError(
            f"{int(bad.sum()):,} of {bad.size:,} values of {name} are not in [0, 1], the first in ",
            int(where[0]),
            f" ({'missing' if np.isnan(value) else value}). It must be a probability: percentages "
            "are to be divided by 100, logits and log-probabilities transformed, missing values "
            "dropped by you, knowingly.",
        )


def check_weights(weight: np.ndarray) -> None:
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        raise RowError(
            f"{int(bad.sum()):,} weight(s) are negative, NaN or infinite, the first in ",
            first(bad),
            f" ({weight[first(bad)]}). Weights must be finite and at least 0.",
        )
    if not weight.any():
        raise InputError(
            "All weights are zero, so no prediction counts. A domain classifier that separates "
            "source and target perfectly does this: there is no overlap to weight."
        )


def check_classes(probabilities: np.ndarray) -> None:
    inside(probabilities, "probabilities")
    if probabilities.shape[1] < 2:
        raise InputError("Probabilities over a single class leave nothing to be right about.")
    off = np.abs(probabilities.sum(axis=1) - 1)
    if off.max() > 1e-3:
        raise RowError(
            "The probabilities of ",
            int(off.argmax()),
            f" add up to {probabilities[off.argmax()].sum():.4f}; each row must add up to 1.",
        )
