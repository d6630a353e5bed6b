"""`moeaudit report RUN`: the page of a finished run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Force
from ..terminal.document import Json, document
from ..terminal.examples import examples


@examples(
    "moeaudit report runs/tiny-olmoe",
    "moeaudit report runs/tiny-olmoe --out pages/tiny-olmoe.html",
    "moeaudit report runs/tiny-olmoe --json",
)
def report(
    run: Annotated[Path, typer.Argument(help="A run folder that `moeaudit audit` finished.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write it.  [default: report.html in RUN]", show_default=False),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the HTML report of a finished run from its tables; nothing is computed again."""
    from moeaudit.front import Run
    from moeaudit.runs.working.folder import check_report_path, require_own_page
    from moeaudit.runs.working.intact import require_whole

    if out is not None:
        check_report_path(out)
    found = Run.load(run)
    require_whole(run)
    if out is not None and not force:
        require_own_page(out, found.spec.hash)
    page = found.report(out)
    if json:
        document("report", folder=run, question=found.spec.hash, report=page)
    else:
        typer.echo(f"Report: {page}")
