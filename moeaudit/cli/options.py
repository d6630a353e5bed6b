"""Parsing of option values that are more than a number or a path."""

from __future__ import annotations

from pathlib import Path

from moeaudit.errors import InputError


def parse_layers(text: str | None) -> list[int] | None:
    """`0,3-5` as [0, 3, 4, 5]; None for every layer."""
    if text is None:
        return None
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(
                f"--layers {text!r} cannot be read at {part.strip()!r}. Give decoder layer numbers "
                "and ranges separated by commas, such as 0,3-5."
            )
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise InputError(f"--layers {text!r} has the range {part.strip()!r} backwards.")
        layers |= set(range(low, high + 1))
    return sorted(layers)


def default_out(model: str) -> Path:
    """`runs/<name of the model>` under the working directory."""
    name = Path(model).name if Path(model).exists() else model.replace("/", "--")
    return Path("runs") / (name or "model")
