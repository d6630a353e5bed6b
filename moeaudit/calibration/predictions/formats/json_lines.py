"""JSON Lines (one object a line) and a JSON list of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from moeaudit.errors import InputError

from .table import Table, lines

SUMMARY = (
    "It looks like the summary of an evaluation (lm-evaluation-harness writes one), which has no single answers: "
    "give its samples, written with --log_samples."
)


def read_json(path: Path, text: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The objects of a file and the line each begins in. Numbers are left as the file writes them.

    Raises InputError, naming the line, for what is no object.
    """
    if text.lstrip().startswith("["):
        found = _parsed(path, text, None)
        records = [(f"entry {k:,} of the list", record) for k, record in enumerate(found, start=1)]
        numbers = list(range(1, len(records) + 1))
    else:
        kept = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(kept) > 1 and kept[0][1].strip() == "{":  # one object over many lines
            found = _parsed(path, text, None)
            raise InputError(
                f"{path} is one JSON object ({_keys(found)}), not a table of predictions. "
                + (f"{SUMMARY} " if isinstance(found, dict) and "results" in found else "")
                + "Give JSON Lines: one object a line, with confidence and correct."
            )
        records = [(f"line {n:,}", _parsed(path, line, n)) for n, line in kept]
        numbers = [n for n, _ in kept]
    for place, record in records:
        if not isinstance(record, dict):
            raise InputError(
                f"{path}: {place} is {type(record).__name__}, not an object. Each prediction is an "
                'object such as {"confidence": 0.8, "correct": true}.'
            )
    return [record for _, record in records], numbers


def table_of(records: list[dict[str, Any]], numbers: list[int], listed: bool) -> Table:
    """Columns of every key that any object has; an object without it has a missing value there."""
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {}
    for name in names:
        column = np.empty(len(records), dtype=object)
        column[:] = [_value(record.get(name)) for record in records]
        columns[name] = column
    place = (lambda row: f"entry {numbers[row]:,} of the list") if listed else lines(numbers)
    return Table(columns, place)


def _value(value: Any) -> Any:
    """JSON's true is the text `true`; an empty text is a missing value, as in CSV."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if isinstance(value, str) and not value.strip() else value


def _parsed(path: Path, text: str, line: int | None) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {line:,}" if line is not None else f"line {getattr(error, 'lineno', 1):,}"
        said = getattr(error, "msg", "nested too deeply")
        raise InputError(
            f"{path} cannot be read as JSON: {said} in {where}. Give JSON Lines (one object a line) or "
            "a list of objects."
        ) from None


def _keys(found: Any) -> str:
    return ", ".join(list(found)[:5]) if isinstance(found, dict) else type(found).__name__
