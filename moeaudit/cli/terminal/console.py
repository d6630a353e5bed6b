"""Consoles: as wide as the terminal, or 100 columns of plain text where there is none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100
_SAID = {"quiet": False}


def be(*, quiet: bool, verbose: bool) -> None:
    """Whether stderr is silent but for errors, and whether it tells what the package logs."""
    _SAID["quiet"] = quiet
    if verbose:
        _tell("moeaudit")


def console(*, stderr: bool = False) -> Console:
    """A Rich console that writes no control codes into files and pipes."""
    from rich.console import Console

    quiet = stderr and _SAID["quiet"]
    screen = Console(stderr=stderr, quiet=quiet)
    return screen if screen.is_terminal else Console(stderr=stderr, width=PLAIN_WIDTH, quiet=quiet)


def say(screen: Console, text: str, style: str = "") -> None:
    """A line as it is: no markup, no colours for numbers, no wrapping of ours."""
    screen.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


class _Says(logging.Handler):
    """Lines on stderr as they are logged."""

    def emit(self, record: logging.LogRecord) -> None:
        say(console(stderr=True), record.getMessage())


def _tell(name: str) -> None:
    log = logging.getLogger(name)
    if not any(isinstance(handler, _Says) for handler in log.handlers):
        log.addHandler(_Says())
        log.setLevel(logging.INFO)


def tell_of_checks() -> None:
    """From here on the console says how far a long check of a model has come."""
    if not any(isinstance(handler, _Says) for handler in logging.getLogger("moeaudit").handlers):
        _tell("moeaudit.checking")
