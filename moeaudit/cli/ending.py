"""How a command ends: an answer, a wrong input, an interrupt, a fault of ours; each with a status of its own.

docs/command-line.md lists the statuses.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from moeaudit.errors import MoeAuditError

NO = 1  # the command worked and its answer is no: numbers that fail, a run that differs from its plan
WRONG = 2  # what was asked cannot be done; nothing was written
FAULT = 70  # of the software, as sysexits.h has it
INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of the signal, as shells have it

# What typer raises for a wrong command line: click's own error, or that of its copy of click.
_Wrong: Any = typer.BadParameter.__mro__[1]


def ended(call: Callable[[], Any], *, debug: bool = False) -> NoReturn:
    """Run a command line and leave the process with its status; `debug` shows the traceback of an error."""
    try:
        code = call()
    except typer.Abort:
        typer.echo("moeaudit: interrupted. Nothing was begun.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NO)
    except Exception as error:  # noqa: BLE001
        if debug:
            import traceback

            typer.echo("".join(traceback.format_exception(error)), err=True)
        _stop(error)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(error: Exception) -> NoReturn:
    """One paragraph on stderr, and the status."""
    if isinstance(error, MoeAuditError):
        _say(f"{error} See {error.where}.")
    if isinstance(error, _Wrong):
        wrong: Any = error
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(wrong.format_message(), err=True)
            sys.exit(WRONG)
        command = wrong.ctx.command_path if wrong.ctx is not None else "moeaudit"
        said = wrong.format_message().rstrip(".")
        said += "" if said.endswith("?") else "."
        _say(f"{said} `{command} --help` lists what there is.")
    if isinstance(error, OSError):
        if error.filename is not None:
            _say(f"{error.filename} cannot be used: {error.strerror}.")
        _say(
            f"the system refused a file operation ({error}). What was finished is kept: see to the file or the "
            "disk, and run the same command again."
        )
    _fault(error)


def _say(message: str) -> NoReturn:
    from .terminal.spelling import typed

    typer.echo(f"moeaudit: {typed(' '.join(message.split()), sys.argv[1:])}", err=True)
    sys.exit(WRONG)


def _fault(error: Exception) -> NoReturn:
    """An error that is ours: a sentence, the traceback in a file, and a status that no other ending has."""
    import tempfile
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if "moeaudit" in Path(each.filename).parts]
    last = (ours or frames)[-1]
    with tempfile.NamedTemporaryFile(
        "w", prefix="moeaudit-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    said = " ".join(f"{type(error).__name__}: {error}".split())
    typer.echo(
        f"moeaudit: stopped by a fault of its own ({said}, line {last.lineno} of {last.filename}). What was finished "
        f"is kept. Please report it with {file.name}, which holds the traceback.",
        err=True,
    )
    sys.exit(FAULT)


@contextmanager
def stoppable(folder: Path | None) -> Iterator[None]:
    """Ctrl-C, or a scheduler's SIGTERM, ends the command with a sentence and status 130, or 143.

    `folder` keeps what was finished; None where a command leaves nothing half-done.
    """

    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated)
        what = "ended by the system (SIGTERM)" if terminated else "interrupted"
        left = (
            "Nothing half-written was left; the same command begins anew."
            if folder is None
            else f"What was finished is kept in {folder}; the same command continues from there."
        )
        typer.echo(f"moeaudit: {what}. {left}", err=True)
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the process is."""


def whole(command: Callable[..., None]) -> Callable[..., None]:
    """The command, ended in words wherever it is interrupted; one that resumes says so itself, within."""

    @functools.wraps(command)
    def call(*args: Any, **given: Any) -> None:
        with stoppable(None):
            command(*args, **given)

    return call
