"""The command line. What computes: `audit`, `merge`, `prune`, `screen`, `calibrate`. What asks: `models`, `inspect`,
`plan`, `doctor`. What reads a run: `report`, `open`, `verify`, `compare`, `check`. What trains: `lab train`,
`lab pool`, `lab list`.

Nothing heavy is imported here, so that `moeaudit --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from moeaudit.version import __version__

from .asked import Context
from .asking.doctor import doctor
from .asking.inspect import inspect
from .asking.models import models
from .asking.plan import plan
from .ending import FAULT as FAULT
from .ending import WRONG, ended, whole
from .lab import app as lab
from .reading.check import check
from .reading.compare import compare
from .reading.open import open_run
from .reading.report import report
from .reading.verify import verify
from .running.audit import audit
from .running.calibrate.command import calibrate
from .running.merge import merge
from .running.prune import prune
from .running.screen import screen
from .terminal import console
from .terminal.examples import epilog

app = typer.Typer(
    name="moeaudit",
    help="Causal audits of Mixture-of-Experts language models: remove one expert for one token at "
    "one layer, exactly, everywhere.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "audit": audit,
    "merge": merge,
    "models": models,
    "inspect": inspect,
    "report": report,
    "open": open_run,
    "verify": verify,
    "compare": compare,
    "plan": plan,
    "check": check,
    "calibrate": calibrate,
    "prune": prune,
    "screen": screen,
    "doctor": doctor,
}
for _name, _command in COMMANDS.items():
    app.command(_name, epilog=epilog(_command))(whole(_command))
app.add_typer(lab)

# Options of every command, which may be typed before it or after it.
DEBUG, QUIET, VERBOSE = ("--debug",), ("--quiet", "-q"), ("--verbose", "-v")


@app.callback(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  moeaudit doctor\n  moeaudit audit tiny-olmoe --documents 24\n"
    "  moeaudit open runs/tiny-olmoe",
)
def _main(
    context: Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, *DEBUG, help="Show the traceback of an error, too."),  # noqa: ARG001
    quiet: bool = typer.Option(False, *QUIET, help="No progress and no notes on stderr."),
    verbose: bool = typer.Option(False, *VERBOSE, help="Log what is done, on stderr."),
) -> None:
    console.be(quiet=quiet, verbose=verbose)
    if version:
        typer.echo(f"moeaudit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:  # options of every command, and no command
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(WRONG)


def main() -> None:
    """Entry point. A problem with the input is one paragraph on stderr and exit status 2."""
    words = _in_front(sys.argv[1:])
    ended(
        lambda: app(words, prog_name="moeaudit", standalone_mode=False),
        debug=DEBUG[0] in words,
    )


def _in_front(words: Sequence[str]) -> list[str]:
    """The command line with the options of every command before the command."""
    stop = words.index("--") if "--" in words else len(words)
    ours = [word for word in words[:stop] if word in (*DEBUG, *QUIET, *VERBOSE)]
    return [*ours, *(word for word in words[:stop] if word not in ours), *words[stop:]]
