"""`moeaudit merge PART... --out RUN`: the parts of an audit put together as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    parts: Annotated[
        list[Path], typer.Argument(help="The folders of all parts (moeaudit audit --shard I/N).")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the whole run.")],
    report: Annotated[
        Path | None, typer.Option(help="Write the HTML report here as well as in the run folder.")
    ] = None,
) -> None:
    """Put the PARTS of an audit together: every table as one undivided run would have it, the tests and
    the report. Needs no model."""
    from moeaudit.front import merge as put_together

    from .audit import show, stoppable
    from .terminal.console import console
    from .terminal.progress import ConsoleProgress

    with stoppable(out), ConsoleProgress(console(stderr=True)) as progress:
        run = put_together(parts, out=out, report=report, progress=progress)
    show(run, console(), report or out / "report.html")
    if run.alarm:
        raise typer.Exit(1)
