"""`moeaudit report RUN`: the page of a finished run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder that `moeaudit audit` finished.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write it.  [default: report.html in RUN]", show_default=False),
    ] = None,
) -> None:
    """Write the HTML report of a finished run from its tables; nothing is computed again."""
    from moeaudit.front import Run
    from moeaudit.runs.working.folder import check_report_path

    if out is not None:
        check_report_path(out)
    typer.echo(f"Report: {Run.load(run).report(out)}")
