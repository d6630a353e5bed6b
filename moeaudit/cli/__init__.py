"""The command line: `moeaudit audit`, `merge`, `models`, `inspect`, `report`, `plan`,
`check`, `calibrate`, `prune`, `screen`, `compare`.

Nothing heavy is imported here, so that `moeaudit --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

from moeaudit.errors import MoeAuditError
from moeaudit.version import __version__

from .audit import audit
from .calibrate.command import calibrate
from .compare import EXAMPLES, compare
from .inspect import inspect
from .merge import merge
from .models import models
from .plan import check, plan
from .prune import prune
from .report import report
from .screen import screen

app = typer.Typer(
    name="moeaudit",
    help="Causal audits of Mixture-of-Experts language models: remove one expert for one token at "
    "one layer, exactly, everywhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(audit)
app.command()(merge)
app.command()(models)
app.command()(inspect)
app.command()(report)
app.command()(plan)
app.command()(check)
app.command()(calibrate)
app.command()(prune)
app.command()(screen)
app.command(epilog="\b\nExamples:\n  " + "\n  ".join(EXAMPLES))(compare)


@app.callback(invoke_without_command=True)
def _main(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"moeaudit {__version__}")
        raise typer.Exit


# What typer raises for a wrong command line: click's own error, or that of its copy of click.
_Wrong: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point. A problem with the input is one paragraph on stderr and exit status 2."""
    try:
        code = app(prog_name="moeaudit", standalone_mode=False)
    except MoeAuditError as error:
        _stop(str(error))
    except _Wrong as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)
            sys.exit(2)
        command = error.ctx.command_path if error.ctx is not None else "moeaudit"
        _stop(f"{error.format_message().rstrip('.')}. `{command} --help` lists what there is.")
    except typer.Abort:
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is not None:
            _stop(f"{error.filename} cannot be used: {error.strerror}.")
        _stop(
            f"the system refused a file operation ({error}). What was finished is kept: see to the file or the "
            "disk, and run the same command again."
        )
    except Exception as error:  # noqa: BLE001
        _fault(error)
    else:
        sys.exit(code if isinstance(code, int) else 0)


FAULT = 70  # of the software, as sysexits.h has it


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


def _stop(message: str) -> NoReturn:
    from .terminal.spelling import typed

    typer.echo(f"moeaudit: {typed(' '.join(message.split()))}", err=True)
    sys.exit(2)
