"""`moeaudit compare RUN RUN [RUN ...]`: finished runs held against each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moeaudit.errors import InputError, MoeAuditError

from ..options import Force
from ..terminal.document import Json, document
from ..terminal.examples import examples

if TYPE_CHECKING:
    from rich.table import Table

    from moeaudit.frames import Frame
    from moeaudit.report.compare.comparison import Comparison


@examples(
    "moeaudit compare runs/tiny-olmoe runs/rerouted",
    "moeaudit compare runs/olmoe runs/qwen runs/deepseek --out models.html",
    "moeaudit compare runs/step-1000 runs/step-2000 --across model --json",
)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of finished runs; each is taken from the first."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write a page with maps and all tables to this file.")
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(
            help="What is compared: model, operator, frozen_routing, share, dtype, text, several by commas, or again "
            "(nothing differs).  [default: the one that differs]"
        ),
    ] = None,
    outcomes: Annotated[
        str,
        typer.Option(help="Outcomes that all runs hold, separated by commas."),
    ] = "delta_nll,kl,flip",
    name: Annotated[
        list[str] | None,
        typer.Option(help="What a run is called, once for each run, in order."),
    ] = None,
    cells: Annotated[
        str,
        typer.Option(
            help="Whether experts are compared by their numbers: check (where numbers mean the same, found by what is "
            "routed to them), index (on your word), none."
        ),
    ] = "check",
    sesoi: Annotated[
        str,
        typer.Option(help="Smallest difference of interest, in the outcome's units; or none."),
    ] = "0.01",
    alpha: Annotated[float, typer.Option(help="Error rate of a family of tests.")] = 0.05,
    level: Annotated[float, typer.Option(help="Of the limits.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the sign-flips.", min=0)] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare RUNS of the same question but for one thing: models, operators, checkpoints or dates. Differences are
    paired by document where the runs read the same ones."""
    from moeaudit.report.compare.comparison import compare as held_against
    from moeaudit.runs.working.folder import check_report_path
    from moeaudit.runs.working.intact import require_whole

    if len(runs) < 2:
        raise InputError(
            f"moeaudit compare needs two run folders or more, and {len(runs)} was given."
        )
    if out is not None:
        check_report_path(out)
    for run in runs:
        require_whole(run)
    try:
        found = held_against(
            *runs,
            across=across,
            outcomes=[word.strip() for word in outcomes.split(",") if word.strip()],
            names=name or None,
            cells=cells,
            sesoi=_size(sesoi),
            alpha=alpha,
            level=level,
            seed=seed,
        )
        page = None if out is None else found.save(out, force=force)
    except MoeAuditError as error:
        raise type(error)(_typed(str(error))) from None
    if json:
        document("compare", **found.to_dict(), report=page)
        return
    _show(found)
    if page is not None:
        typer.echo(f"\nReport: {page}")


def _size(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--sesoi cannot be read at {text!r}. Give a number in the outcome's units, such as 0.01 (nats), or none."
        ) from None


def _typed(message: str) -> str:
    """Arguments as Python has them, as options."""
    message = re.sub(r"\bacross=", "--across ", message)
    return re.sub(r"\bcells='?(\w+)'?", r"--cells \1", message).replace("cells=", "--cells ")


def _show(found: Comparison) -> None:
    """Sentences, and a table of layers (or of thirds of the depth, where layers are not the same places)."""
    from ..terminal.console import console, say

    screen = console()
    first, *rest = found.sentences
    say(screen, f"\n{first}", style="bold")
    for sentence in rest:
        say(screen, f"- {sentence}")
    for sentence in found.not_compared:
        say(screen, f"Not compared: {sentence}")
    table = found.thirds if found.layers.empty else found.layers
    if not table.empty and not found.identical:
        screen.print()
        screen.print(_differences(found, table, screen.encoding), highlight=False)


def _differences(found: Comparison, table: Frame, encoding: str) -> Table:
    """One row a place, one column an outcome."""
    from rich import box
    from rich.table import Table

    from moeaudit.report.compare.words import difference, verdict_words
    from moeaudit.report.pages.tables import rows_of
    from moeaudit.report.words.evidence import outcome_name

    unicode = encoding.lower().startswith("utf")
    drawn = Table(
        box=box.SIMPLE_HEAD if unicode else box.ASCII2,
        caption="differences with limits by document, and verdicts corrected over the places of a column",
        caption_justify="left",
        caption_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    place = "layer" if "layer" in table else "third"
    drawn.add_column("runs", no_wrap=True)
    drawn.add_column(place, no_wrap=True)
    for outcome in found.outcomes:
        drawn.add_column(outcome_name(outcome))
    rows: dict[tuple[str, str], list[str]] = {}
    for row in rows_of(table):
        said = f"{difference(row)} {verdict_words(row['verdict'], row['a'], row['b'])}"
        if not unicode:
            said = said.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
        rows.setdefault((f"{row['a']}, {row['b']}", str(row[place])), []).append(said)
    for keys, cells in rows.items():
        drawn.add_row(*keys, *(cell.replace("[", "\\[") for cell in cells))
    return drawn
