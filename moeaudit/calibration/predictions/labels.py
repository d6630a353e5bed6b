"""Names of groups and documents: text, always, so that 4.1 and 4.10 or 1 and True stay apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError

from .columns import one_column
from .rows import RowError, first, shown


def texts(values: Any, name: str) -> np.ndarray:
    """One label as text for each prediction, an object array (n,).

    Whole numbers in a column of floats lose their ".0": they are integers that met a missing value once.
    Raises RowError for a missing label and for one that differs from another by spaces at its ends only.
    """
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()
        _none_missing(codes < 0, name)
        return texts(values.cat.categories, name)[codes]
    column = one_column(values, name)
    if column.dtype.kind in "biufU":
        different, place = np.unique(column, return_inverse=True)
        if column.dtype.kind == "f":
            _none_missing(np.isnan(column), name)
        return np.array([_text(v) for v in different.tolist()], dtype=object)[place]
    if pd.api.types.infer_dtype(column, skipna=False) != "string":
        _none_missing(np.asarray(pd.isna(column)), name)
        for row, value in enumerate(column.tolist()):
            if isinstance(value, list | tuple | dict | set | np.ndarray):
                raise RowError(
                    f"The {name} of ", row, f" is {shown(value)}; a label is one text or number."
                )
        made = np.empty(len(column), dtype=object)
        made[:] = [str(v) for v in column.tolist()]
        column = made
    _spaces(column, name)
    return column


def ordered(labels: list[str]) -> list[str]:
    """Labels in the order of their numbers if all of them are numbers, else of their letters."""
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return sorted(labels)
    if any(value != value for value in values.values()):
        return sorted(labels)
    return sorted(labels, key=lambda label: (values[label], label))


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _none_missing(absent: np.ndarray, name: str) -> None:
    if absent.any():
        raise RowError(
            f"{int(absent.sum()):,} prediction(s) have no {name}, the first in ",
            first(absent),
            ". Give every prediction one, or leave the column out.",
        )


def _spaces(column: np.ndarray, name: str) -> None:
    known = set(column.tolist())
    spaced = {label for label in known if label != label.strip() and label.strip() in known}
    if spaced:
        row = next(i for i, label in enumerate(column.tolist()) if label in spaced)
        raise RowError(
            f"The {name} of ",
            row,
            f" is {shown(column[row])}, and {shown(column[row].strip())} is there too: they differ by "
            "spaces only. Write them alike, or further apart.",
        )


def check_texts(column: np.ndarray | None, name: str) -> np.ndarray | None:
    """`texts`, with what is right already left alone."""
    if column is None or not len(column):
        return column
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=False) == "string":
        return column
    if column.ndim != 1:
        raise InputError(f"The {name} has the shape {column.shape}; one column is needed.")
    return texts(column, name)
