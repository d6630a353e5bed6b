"""`moeaudit check RUN FILE`: a finished run held against the plan that was frozen before it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..ending import NO
from ..terminal.document import Json, document
from ..terminal.examples import examples


@examples(
    "moeaudit check runs/tiny-olmoe plan.json",
    "moeaudit check runs/tiny-olmoe plan.json --json",
)
def check(
    run: Annotated[Path, typer.Argument(help="A run folder that `moeaudit audit` finished.")],
    file: Annotated[Path, typer.Argument(help="The frozen plan.")],
    json: Json = False,
) -> None:
    """Say what of a finished RUN equals the plan in FILE; exit status 1 where something does not."""
    from moeaudit.runs.plans import check_plan

    from ..terminal.console import console, say

    table = check_plan(run, file)
    kept = bool(table.attrs["kept"])
    if json:
        document("check", run=run, plan=file, kept=kept, fields=table)
        if not kept:
            raise typer.Exit(NO)
        return
    screen = console()
    for row in table.to_dict("records"):
        if row["equal"]:
            say(screen, f"equal    {row['field']}")
        elif row["note"]:
            say(
                screen,
                f"note     {row['field']}: planned {row['planned']}, found {row['found']} ({row['note']})",
            )
        else:
            say(screen, f"DIFFERS  {row['field']}: planned {row['planned']}, found {row['found']}")
    if not kept:
        say(screen, f"The run in {run} is not the audit that was planned in {file}.", style="bold")
        raise typer.Exit(NO)
    say(screen, f"The run in {run} is the audit that was planned in {file}.", style="bold")
