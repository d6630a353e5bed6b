"""`moeaudit lab pool`: the models that analyses compare, trained once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError

from ..ending import stoppable
from ..options import Device
from ..terminal.document import Json, document
from ..terminal.examples import examples
from .train import Quick

if TYPE_CHECKING:
    from rich.table import Table

Folder = Annotated[
    Path | None,
    typer.Option(help="Where models are kept.  [default: $MOEAUDIT_LAB or ~/.cache/moeaudit/lab]"),
]


@examples(
    "moeaudit lab pool",
    "moeaudit lab pool --arms olmoe,olmoe-micro --seeds 0-4 --folder pool",
    "moeaudit lab pool --arms olmoe --seeds 0 --quick --folder try --json > pool.json",
)
def pool(
    arms: Annotated[
        str | None,
        typer.Option(help="Arms, separated by commas.  [default: all that this version can train]"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0-2 or 0,3.")] = "0-2",
    folder: Folder = None,
    quick: Quick = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train what a pool of models lacks, one model after the other, and list what it holds. The same command goes on
    where it was interrupted."""
    from moeaudit.lab.pools import pool as gathered
    from moeaudit.report.lab import write_curves

    from ..terminal.console import console, say
    from .curves import CurvesProgress

    chosen = None if arms is None else [word.strip() for word in arms.split(",") if word.strip()]
    made = gathered(chosen, seed_numbers(seeds), folder, quick=quick, device=device or "cpu")
    trained = made.missing
    with stoppable(made.folder), CurvesProgress(console(stderr=True)) as progress:
        made.train(progress)
    for each in trained:
        write_curves(made.place(*each))
    table = made.models
    if json:
        document("lab pool", folder=made.folder, trained=len(trained), models=table)
        return
    shown = console()
    shown.print(models_table(table))
    say(
        shown,
        f"nll: nats a token on held-out text. Trained now: {len(trained)}. Folder: {made.folder}",
    )


def seed_numbers(text: str) -> list[int]:
    """`0-2,5` as [0, 1, 2, 5]. Raises InputError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not (last.isdigit() and int(last) >= int(first))):
            raise InputError(
                f"--seeds {text!r} cannot be read at {part.strip()!r}. Give whole numbers and ranges separated by "
                "commas, such as 0-2 or 0,3."
            )
        found.extend(range(int(first), (int(last) if dash else int(first)) + 1))
    return found


def models_table(table: Any) -> Table:
    """The models of a pool for the terminal."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("arm", no_wrap=True)
    for heading in ("seed", "nll", "entropy", "balance", "unique parameters", "seconds"):
        shown.add_column(heading, justify="right")
    for row in table.itertuples():
        routing = ["-" if x != x or x is None else f"{x:.3f}" for x in (row.entropy, row.balance)]
        shown.add_row(
            row.arm,
            str(row.seed),
            f"{row.nll:.4f}",
            *routing,
            f"{row.unique:,}",
            f"{row.seconds:.0f}",
        )
    return shown
