"""`moeaudit lab`: small MoEs trained from a recipe. `train` makes one, `pool` many, `list` says what there is."""

from __future__ import annotations

import typer

from ..ending import whole
from ..terminal.examples import epilog
from .list import list_lab
from .pool import pool
from .train import train

LAB_COMMANDS = {"train": train, "list": list_lab, "pool": pool}

app = typer.Typer(
    name="lab",
    help="Train small MoEs of three families from a recipe, and see what there is to train.",
    epilog="\b\nExamples:\n  moeaudit lab list\n  moeaudit lab train olmoe --out models/mine\n"
    "  moeaudit lab pool --arms olmoe,olmoe-micro --seeds 0-2",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _name, _command in LAB_COMMANDS.items():
    app.command(_name, epilog=epilog(_command))(whole(_command))
