"""`moeaudit merge PART... --out RUN`: the parts of an audit put together as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..ending import stoppable
from ..options import Force
from ..terminal.document import Json
from ..terminal.examples import examples
from .audit import tell


@examples(
    "moeaudit merge parts/1 parts/2 parts/3 parts/4 --out runs/whole",
    "moeaudit merge runs/tiny-olmoe--part-*-of-4 --out runs/tiny-olmoe --report page.html",
)
def merge(
    parts: Annotated[
        list[Path], typer.Argument(help="The folders of all parts (moeaudit audit --shard I/N).")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the whole run.")],
    report: Annotated[
        Path | None, typer.Option(help="Write the HTML report here as well as in the run folder.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Put the PARTS of an audit together: every table as one undivided run would have it, the tests and
    the report. Needs no model."""
    from moeaudit.front import merge as put_together

    from ..terminal.console import console
    from ..terminal.progress import ConsoleProgress

    with stoppable(out), ConsoleProgress(console(stderr=True)) as progress:
        run = put_together(parts, out=out, report=report, progress=progress, force=force)
    tell("merge", run, report or out / "report.html", json)
