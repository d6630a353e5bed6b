"""`moeaudit lab train RECIPE --out FOLDER`: one model from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moeaudit.errors import InputError

from ..ending import stoppable
from ..options import Device
from ..terminal.document import Json, document
from ..terminal.examples import examples

if TYPE_CHECKING:
    from moeaudit.lab.recipes import Recipe

Quick = Annotated[
    bool,
    typer.Option("--quick", help="A small model and a dozen steps: the machinery, no result."),
]


@examples(
    "moeaudit lab train olmoe --out models/olmoe",
    "moeaudit lab train mine.toml --out models/mine --seed 1",
    "moeaudit lab train olmoe-micro --out models/try --quick --json > trained.json",
)
def train(
    recipe: Annotated[
        str, typer.Argument(help="A TOML file, or the name of an arm (moeaudit lab list).")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the model, new or of this recipe.")],
    seed: Annotated[int | None, typer.Option(help="Seed.  [default: the recipe's]")] = None,
    quick: Quick = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train the model of RECIPE into a folder that every other command takes as a model. The same command goes on
    with an interrupted training; on a finished one it shows the card again."""
    from moeaudit.lab.finished.folder import card_of
    from moeaudit.lab.trainer import train as make
    from moeaudit.report.lab import write_curves

    from ..terminal.console import console, say
    from .curves import CurvesProgress

    asked = named(recipe, quick)
    if seed is not None:
        asked = asked.changed(seed=seed)
    with stoppable(out), CurvesProgress(console(stderr=True)) as progress:
        make(asked, out, progress=progress, device=device or "cpu")
    page, card = write_curves(out), card_of(out) or {}
    if json:
        document("lab train", folder=out, recipe=asked.to_dict(), curves=page, card=card)
        return
    shown, numbers = console(), card["parameters"]
    say(shown, f"{asked.name}: {card['nll']:.4f} nats a token on held-out text", style="bold")
    say(
        shown,
        f"{numbers['total']:,} parameters, {numbers['active']:,} active; {card['tokens']:,} tokens in "
        f"{card['seconds']:.0f} s",
    )
    say(shown, f"Card: {out / 'card.md'}\nCurves: {page}\nAudit it: moeaudit audit {out}")


def named(recipe: str, quick: bool) -> Recipe:
    """The recipe of a file or an arm. Raises InputError for what is neither."""
    from moeaudit.lab.recipes import ARMS, Recipe
    from moeaudit.lab.recipes import recipe as arm
    from moeaudit.lab.recipes.arms import QUICK

    if recipe in ARMS:
        return arm(recipe, quick=quick)
    if Path(recipe).suffix == ".toml" or Path(recipe).is_file():
        found = Recipe.read(recipe)
        return found.changed(**QUICK) if quick else found
    raise InputError(
        f"There is no recipe {recipe!r}: a TOML file or the name of an arm was expected. `moeaudit lab list` lists "
        f"the arms: {', '.join(ARMS)}."
    )
