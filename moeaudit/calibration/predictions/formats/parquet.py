"""Parquet: rows are counted from 1, as viewers of such files do."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moeaudit.errors import InputError

from .table import Table


def read_parquet(path: Path) -> Table:
    """The table in a Parquet file. Raises InputError if it is damaged."""
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:  # Arrow's errors are one of these
        raise InputError(
            f"{path} cannot be read as Parquet: {str(error).strip()}. Write it again."
        ) from error
    columns = {str(name): frame[name] for name in frame.columns}
    return Table(columns, lambda row: f"row {row + 1:,} (the first is 1)")
