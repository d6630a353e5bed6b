"""Examples below the help of a command: each line one that can be typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C", bound=Callable[..., None])


def examples(*lines: str) -> Callable[[C], C]:
    """Give a command its examples, which `epilog` shows."""

    def mark(command: C) -> C:
        command.__dict__["examples"] = lines
        return command

    return mark


def epilog(command: Callable[..., None]) -> str:
    """The examples as the end of the help, lines kept as they are."""
    lines = command.__dict__.get("examples", ())
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
