"""The command line: `moeaudit audit`, `merge`, `models`, `inspect`, `report`, `plan`,
`check`, `calibrate`, `prune`, `screen`.

Nothing heavy is imported here, so that `moeaudit --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from moeaudit.errors import MoeAuditError
from moeaudit.version import __version__

from .audit import audit
from .calibrate.command import calibrate
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


@app.callback(invoke_without_command=True)
def _main(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"moeaudit {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point. A problem with the input is one paragraph on stderr and exit status 2."""
    try:
        app(prog_name="moeaudit")
    except MoeAuditError as error:
        typer.echo(f"moeaudit: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        typer.echo(
            f"moeaudit: the system refused a file operation ({error}). What was finished is kept: see to the file or "
            "the disk, and run the same command again.",
            err=True,
        )
        sys.exit(2)
