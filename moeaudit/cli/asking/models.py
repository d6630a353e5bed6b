"""`moeaudit models`: what comes with the package, and with `--all` the cards of well-known models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from moeaudit.models.bundled.cards import Card

from ..terminal.document import Json, document
from ..terminal.examples import examples

MISSING = "-"


@examples("moeaudit models", "moeaudit models --all", "moeaudit models --all --json")
def models(
    all_: Annotated[
        bool,
        typer.Option(
            "--all", help="Also well-known models: router, sizes, costs, what can be done."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List the bundled models with the figures on their cards; with --all well-known models too."""
    from moeaudit.models.bundled import bundled_figures, bundled_models

    names = bundled_models()
    if json:
        more = {"cards": _cards()} if all_ else {}
        document("models", models=[_told(name, bundled_figures(name)) for name in names], **more)
        return
    _bundled(names, bundled_figures)
    if all_:
        _well_known()


def _cards() -> list[dict[str, Any]]:
    from moeaudit.models.bundled.cards import cards

    return [asdict(card) for card in cards()]


def _well_known() -> None:
    from rich import box
    from rich.table import Table

    from moeaudit.models.bundled.cards import cards

    from ..terminal.console import console, say

    screen = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for heading in CARDS:
        table.add_column(heading, justify="right", overflow="fold")
    for card in cards():
        table.add_row(card.name, *(write(card) for write in CARDS.values()))
    screen.print(table)
    say(screen, "sum: what the weights of a token's active experts add up to.")
    say(
        screen,
        "rows, TFLOP: every removal in one document of 128 tokens. No weights of these were at hand.",
    )
    for card in cards():
        cannot = f" But: {card.cannot}." if card.cannot else ""
        say(screen, "")
        say(
            screen,
            f"{card.name}: {card.router}. Audited: {AUDITED[card.audit]}; {card.can}.{cannot}",
        )


def _bundled(names: list[str], bundled_figures: Callable[[str], dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    from ..terminal.console import console, say

    screen = console()
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


def _told(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The same for programs; null where the model's card does not have it."""
    above = figures.get("routing", [])
    return {
        "name": name,
        "parameters": figures.get("parameters"),
        "active_parameters": figures.get("active_parameters"),
        "weights_bytes": figures.get("weights_bytes"),
        **{each: _mean(each, figures) for each in ("bits_per_byte", "trigram", "unigram")},
        "routing_layers": len(above) or None,
        "routing_layers_above_chance": sum(map(_above, above)) if above else None,
    }


def _mean(name: str, figures: dict[str, Any]) -> float | None:
    rows = [row[name] for row in figures.get("language", []) if row["trained"]]
    return sum(rows) / len(rows) if rows else None


def _bits(name: str) -> Callable[[dict[str, Any]], str]:
    def write(figures: dict[str, Any]) -> str:
        mean = _mean(name, figures)
        return MISSING if mean is None else f"{mean:.2f}"

    return write


def _above(row: dict[str, Any]) -> bool:
    return row["top1"]["value"] > row["top1"]["null_95"]


def _routing(figures: dict[str, Any]) -> str:
    above = [_above(row) for row in figures["routing"]]
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


def _sized(write: Callable[[Any], str]) -> Callable[[Card], str]:
    """A figure of a card's sizes, or a dash where there are none."""
    return lambda card: MISSING if card.sizes is None else write(card.sizes)


AUDITED = {
    "yes": "yes",
    "memory": "yes, where it fits or is streamed",
    "object": "the loaded object only",
    "no": "no",
}
CARDS: dict[str, Callable[[Card], str]] = {
    "experts": _sized(lambda s: f"{s.experts}, {s.top_k}"),
    "MoE layers": _sized(lambda s: f"{s.moe_layers} of {s.layers}"),
    "scores": lambda card: card.score,
    "sum": lambda card: card.weights_sum,
    "parameters": _sized(lambda s: f"{s.parameters / 1e9:.1f} B"),
    "active": _sized(lambda s: f"{s.active / 1e9:.1f} B"),
    "rows": _sized(lambda s: f"{s.removals:,}"),
    "TFLOP": _sized(lambda s: f"{s.tflop:,.0f}"),
}
