"""`moeaudit open RUN`: the page in the browser, written first where it is missing or stale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..terminal.document import Json, document
from ..terminal.examples import examples

# Of folders that other commands wrote: the record that marks them, and the page beside it.
PAGES = {"pruning.json": "pruning.html", "calibration.json": "calibration.html"}


@examples(
    "moeaudit open runs/tiny-olmoe",
    "moeaudit open pruned",
    "moeaudit open runs/tiny-olmoe --print",
)
def open_run(
    run: Annotated[
        Path,
        typer.Argument(help="A run folder, or what `prune --out` or `calibrate --out` wrote."),
    ],
    only: Annotated[
        bool, typer.Option("--print", help="Print where the page is, and open nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Open the page of RUN in the default browser; it is written first where it is missing or older than its
    tables. Where there is no browser, the path is printed."""
    page, written = _page(run)
    opened = not only and not json and _opened(page)
    if json:
        document("open", folder=run, report=page, written=written)
    else:
        typer.echo(str(page.resolve()))
        if not opened and not only:
            typer.echo("There is no browser here: open that file where there is one.", err=True)


def _page(folder: Path) -> tuple[Path, bool]:
    """The page, and whether it was written now."""
    from moeaudit.errors import RunError

    for record, name in PAGES.items():
        if (folder / record).is_file():
            if not (folder / name).is_file():
                raise RunError(
                    f"{folder / name} is missing, and {record} beside it does not hold what it was drawn from. Run the "
                    "command that wrote this folder again."
                )
            return folder / name, False
    from moeaudit.runs.working.intact import require_whole, stale_page

    why = stale_page(folder)
    if why is None:
        return folder / "report.html", False
    from moeaudit.front import Run

    found = Run.load(folder)
    require_whole(folder)
    return found.report(), True


def _opened(page: Path) -> bool:
    import webbrowser

    try:
        return webbrowser.get().open(page.resolve().as_uri())
    except webbrowser.Error:
        return False
