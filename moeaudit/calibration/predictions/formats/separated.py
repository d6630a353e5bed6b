"""CSV and TSV, read strictly: every line has the header's number of fields, every label is text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from moeaudit.errors import InputError

from .table import Table, lines

_FIELDS = 8  # of a line that a message shows


def read_separated(path: Path, text: str) -> Table:
    """The table in the text of a file. Raises InputError, naming the line, for anything out of step."""
    separator = _separator(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    start, rows, numbers = 1, [], []
    try:
        for fields in reader:
            line, start = start, reader.line_num + 1
            if not fields:
                continue
            if not header:
                header = _header(path, fields, line)
                continue
            if len(fields) != len(header):
                raise InputError(
                    f"{path} cannot be read as CSV: line {line:,} has {len(fields)} fields and the "
                    f"header has {len(header)} ({_listed(header)}). The line begins "
                    f"{_listed(fields)}. A comma too many or too few moves every value after it into "
                    "another column: put it right, or quote the text that holds it."
                )
            rows.append(fields)
            numbers.append(line)
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as CSV: {error}, in or after line {start:,}. A quotation mark "
            "that is never closed does this; close it, or double the marks inside of quoted text."
        ) from None
    if not header:
        raise InputError(f"{path} is empty; it needs a header and at least one row.")
    columns = {}
    for name, values in zip(header, zip(*rows) if rows else [()] * len(header)):
        column = np.empty(len(values), dtype=object)
        column[:] = [value if value.strip() else None for value in values]
        columns[name] = column
    return Table(columns, lines(numbers))


def _separator(path: Path, text: str) -> str:
    head = text.lstrip("\r\n").split("\n", 1)[0]
    if path.name.removesuffix(".gz").endswith(".tsv"):
        return "\t"
    return next((mark for mark in ",;\t" if mark in head), ",")


def _header(path: Path, fields: list[str], line: int) -> list[str]:
    names = [name.strip() for name in fields]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(
            f"{path} has the column {', '.join(twice)} more than once in its header (line {line}), so "
            "it is open which one is meant. Rename or remove the other."
        )
    return names


def _listed(fields: list[str]) -> str:
    more = f" and {len(fields) - _FIELDS} more" if len(fields) > _FIELDS else ""
    return ", ".join(field if field else "''" for field in fields[:_FIELDS]) + more
