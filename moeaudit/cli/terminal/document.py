"""`--json`: one document on stdout, for programs; whatever is said besides goes to stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text, for programs.")
]


def document(command: str, **content: Any) -> None:
    """Print `content` with the command's name and the version. A number that there is not is null."""
    from moeaudit.version import __version__

    said = {"command": command, "moeaudit": __version__, **plain(content)}
    typer.echo(json.dumps(said, indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """`value` in JSON's own kinds: tables as lists of rows, paths as text, NaN and infinity as None."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        return [plain(row) for row in value.to_dict("records")]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)
