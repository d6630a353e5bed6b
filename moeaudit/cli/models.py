"""`moeaudit models`: what comes with the package."""

from __future__ import annotations


def models() -> None:
    """List the bundled models with the figures on their cards."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..models.bundled import bundled_figures, bundled_models

    console = Console()
    names = bundled_models()
    if not names:
        console.print("No model is bundled with this installation.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    figures = {name: _flat(bundled_figures(name)) for name in names}
    headings = list(dict.fromkeys(key for found in figures.values() for key in found))
    for heading in headings:
        table.add_column(heading.replace("_", " "), justify="right")
    for name in names:
        table.add_row(name, *(_written(figures[name].get(heading)) for heading in headings))
    console.print(table)
    console.print(
        "Small models test the instrument; they are no evidence about large ones.", highlight=False
    )


def _flat(figures: dict) -> dict[str, object]:
    """The card's plain figures; nested ones are left to the card."""
    return {k: v for k, v in figures.items() if isinstance(v, (int, float, str))}


def _written(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
