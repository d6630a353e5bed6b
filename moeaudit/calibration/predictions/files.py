"""A file of predictions, from any model: CSV or Parquet, one row for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from moeaudit.errors import InputError

from .predictions import Predictions

NEEDED = ("confidence", "correct")
OPTIONAL = ("group", "document", "weight")


def read_predictions(path: Path, columns: Mapping[str, str] | None = None) -> Predictions:
    """The predictions in a file.

    `columns` says what a role's column is called where it is not called by its role: {"correct":
    "is_right"}. A column named there must exist; group, document and weight are used if they are there.
    Raises InputError, naming the file, for anything that cannot be scored.
    """
    names = {role: role for role in (*NEEDED, *OPTIONAL)} | dict(columns or {})
    frame = read_frame(path)
    missing = [
        name
        for role, name in names.items()
        if name not in frame.columns and (role in NEEDED or role in (columns or {}))
    ]
    if missing:
        raise InputError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. It has "
            f"{', '.join(map(str, frame.columns)) or 'none'}. Each row needs a confidence in [0, 1] "
            "and whether the prediction was correct; say what they are called with --confidence and "
            "--correct, and likewise --group, --document and --weight."
        )
    try:
        return Predictions.from_frame(frame, **names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_frame(path: Path) -> pd.DataFrame:
    """The table in a CSV (or TSV) or Parquet file, told apart by content."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise InputError(
            f"{path} is {what}; a CSV or Parquet file of predictions is needed, with the columns "
            "confidence and correct and, if there are any, group, document and weight."
        )
    with path.open("rb") as handle:
        parquet = handle.read(4) == b"PAR1"
    try:
        if parquet:
            return pd.read_parquet(path)
        # Only an empty field is a missing value: a group may well be called NA or None.
        return pd.read_csv(
            path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False, na_values=[""]
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty; it needs a header and at least one row.") from None
    except (ValueError, OSError) as error:  # parser, decoding and Arrow errors are all one of these
        kind = "Parquet" if parquet else "CSV in UTF-8"
        raise InputError(
            f"{path} cannot be read as {kind}: {str(error).strip()}. Write it again as CSV with a "
            "header line, or as Parquet."
        ) from error
