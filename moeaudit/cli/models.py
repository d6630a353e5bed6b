"""`moeaudit models`: what comes with the package, with the figures measured for its cards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MISSING = "-"


def models() -> None:
    """List the bundled models with the figures on their cards."""
    from rich import box
    from rich.table import Table

    from moeaudit.models.bundled import bundled_figures, bundled_models

    from .terminal.console import console, say

    screen = console()
    names = bundled_models()
    if not names:
        say(screen, "No model is bundled with this installation.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for heading in FIGURES:
        table.add_column(heading, justify="right")
    for name in names:
        figures = bundled_figures(name)
        table.add_row(name, *(_written(write, figures) for write in FIGURES.values()))
    screen.print(table)
    say(
        screen,
        "bits/byte: mean over the test documents of the domains trained on; lower is better.",
    )
    say(
        screen,
        "routing: layers in which the top-1 expert tells more about the domain than chance (95%).",
    )
    say(screen, "Small models test the instrument; they are no evidence about large ones.")


def _bits(name: str) -> Callable[[dict[str, Any]], str]:
    def write(figures: dict[str, Any]) -> str:
        rows = [row[name] for row in figures["language"] if row["trained"]]
        return f"{sum(rows) / len(rows):.2f}"

    return write


def _routing(figures: dict[str, Any]) -> str:
    above = [row["top1"]["value"] > row["top1"]["null_95"] for row in figures["routing"]]
    return f"{sum(above)} of {len(above)}"


FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "parameters": lambda f: f"{f['parameters'] / 1e6:.1f} M",
    "active": lambda f: f"{f['active_parameters'] / 1e6:.1f} M",
    "on disk": lambda f: f"{f['weights_bytes'] / 1e6:.1f} MB",
    "bits/byte": _bits("bits_per_byte"),
    "trigram": _bits("trigram"),
    "unigram": _bits("unigram"),
    "routing": _routing,
}


def _written(write: Callable[[dict[str, Any]], str], figures: dict[str, Any]) -> str:
    """A figure, or a dash where the model's card does not have it (yet)."""
    try:
        return write(figures)
    except (KeyError, ZeroDivisionError):
        return MISSING
