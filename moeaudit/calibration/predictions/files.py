"""A file of predictions, from any model: CSV, TSV, JSON Lines or Parquet, one row for each."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from moeaudit.errors import InputError

from .columns import is_number
from .formats.json_lines import SUMMARY, read_json, table_of
from .formats.parquet import read_parquet
from .formats.samples import is_samples, read_samples
from .formats.separated import read_separated
from .formats.table import Table
from .predictions import Predictions
from .rows import RowError

NEEDED = ("confidence", "correct")
OPTIONAL = ("group", "document", "weight")
# First bytes of what is often given instead, and what to do then.
_OTHER = {
    b"PK\x03\x04": "an Excel workbook or a zip archive; save the table as CSV",
    b"\x93NUMPY": "a numpy array; write its columns as CSV or Parquet",
    b"ARROW1": "an Arrow (Feather) file; write it as Parquet",
    b"FEA1": "a Feather file; write it as Parquet",
    b"SQLite format 3": "a SQLite database; write the table as CSV",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    b"\x80\x04": "a pickle, which may hold anything; write the table as CSV or Parquet",
    b"\x80\x05": "a pickle, which may hold anything; write the table as CSV or Parquet",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"%PDF": "a PDF; write the table as CSV",
    b"<!DOC": "an HTML page; write the table as CSV",
    b"<html": "an HTML page; write the table as CSV",
}


def read_predictions(path: Path, columns: Mapping[str, str] | None = None) -> Predictions:
    """The predictions in a file; see `read_with_remarks`."""
    return read_with_remarks(path, columns)[0]


def read_with_remarks(
    path: Path, columns: Mapping[str, str] | None = None
) -> tuple[Predictions, tuple[str, ...]]:
    """The predictions in a file, and what a reader must know about how they were read.

    `columns` says what a role's column is called where it is not called by its role: {"correct":
    "is_right"}. A column named there must exist; group, document and weight are used if they are there.
    Raises InputError, naming the file and the line, for anything that cannot be scored.
    """
    asked = dict(columns or {})
    names = {role: role for role in (*NEEDED, *OPTIONAL)} | asked
    table = read_table(path)
    known = table.columns
    missing = [n for r, n in names.items() if n not in known and (r in NEEDED or r in asked)]
    if missing:
        near = [get_close_matches(name, list(known), n=1, cutoff=0.75) for name in missing]
        meant = " and ".join(hit[0] for hit in near if hit)
        odd = _odd_header(list(known))
        raise InputError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. It has "
            f"{', '.join(map(str, known)) or 'none'}."
            + (odd or (f" Did you mean {meant}?" if meant else ""))
            + " Each row needs a confidence in [0, 1] and whether the prediction was correct; say what "
            "they are called with --confidence and --correct, and likewise --group, --document and --weight."
        )
    values = {role: known.get(name) for role, name in names.items()}
    try:
        return Predictions.of(**values), table.remarks
    except RowError as error:
        raise InputError(f"{path}: {error.at(table.place)}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _odd_header(names: list[str]) -> str:
    """What is the matter with a table whose columns are these, where that is plain."""
    if {"results", "configs"} & set(names) or {"results", "config"} <= set(names):
        return f" {SUMMARY}"
    if len(names) == 1:
        return " That is one field: fields are separated by commas, semicolons or tabs."
    if all(is_number(name) for name in names):
        return " Those are numbers: the first line must name the columns."
    return ""


def read_table(path: Path) -> Table:
    """The table in a file, its kind told by content. Raises InputError for any other kind, by name."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise InputError(
            f"{path} is {what}; a CSV, JSON Lines or Parquet file of predictions is needed, with the "
            "columns confidence and correct and, if there are any, group, document and weight."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if data[:4] == b"PAR1":
        return read_parquet(path)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be unpacked: {error}. Write it again.") from None
    for magic, what in _OTHER.items():
        if data.startswith(magic):
            raise InputError(f"{path} is {what}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} cannot be read as CSV in UTF-8: line {line:,} holds the byte "
            f"0x{data[error.start]:02x}, which is no such text. Save it again as UTF-8."
        ) from None
    if "\x00" in text:
        raise InputError(
            f"{path} cannot be read as CSV in UTF-8: it holds null bytes. Write it again."
        )
    if not text.strip():
        raise InputError(f"{path} is empty; it needs a header and at least one row.")
    if text.lstrip()[0] not in "{[":
        return read_separated(path, text)
    records, numbers = read_json(path, text)
    if records and is_samples(records[0]):
        return read_samples(path, records, numbers)
    return table_of(records, numbers, text.lstrip().startswith("["))
