"""The tables of a forecast on the terminal: losses beside the mean, signs beside those of the models it learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from moeaudit.pruning.forecast import Forecast


def loss_table(found: Forecast, encoding: str = "utf-8") -> Table:
    """A row for each share that goes: forecast, the mean that needs no census, and what both were worth."""
    from moeaudit.pruning.forecast.words import between, percent

    level = f"[{found.level:.0%}]"
    table = _table("What is expected, and what it was worth on recipes left out", encoding)
    for name in (
        "pruned",
        f"forecast,\nnats a token\n{level}",
        f"mean, no census,\nnats a token\n{level}",
        "off by a\nfactor of",
        "the\nmean's",
        "error smaller\nby [95%]",
        "within\nlimits",
    ):
        table.add_column(name, justify="right", overflow="fold")
    for _, row in found.table.iterrows():
        known = row["gain"] == row["gain"]
        cells = [
            f"{1 - row['keep']:.0%}",
            between(row["lost"], row["low"], row["high"]) if known else "all lost the same",
            between(row["mean"], row["mean_low"], row["mean_high"]),
        ]
        cells += [f"{row[name]:.2f}" if known else "" for name in ("factor", "baseline")]
        gain = (percent(row[name]) for name in ("gain", "gain_low", "gain_high"))
        cells.append("{} [{}, {}]".format(*gain) if known else "")
        cells.append(f"{row['covered']:.0%}")
        table.add_row(*(_plain(cell, encoding) for cell in cells))
    return table


def sign_table(found: Forecast, encoding: str = "utf-8") -> Table:
    """A row for each sign: this model's, the range of the table's models, and whether it lies beyond."""
    from moeaudit.pruning.forecast.words import sign

    table = _table("Signs of this model, beside those of the table's models", encoding)
    table.add_column("sign", overflow="fold")
    for name in ("this model", "least", "most"):
        table.add_column(name, justify="right")
    table.add_column("beyond?")
    for _, row in found.ranges.iterrows():
        said = "beyond" if row["outside"] else "" if row["used"] else "not used"
        cells = [row["sign"], *(sign(row[name]) for name in ("value", "low", "high")), said]
        table.add_row(*(_plain(cell, encoding) for cell in cells))
    return table


def _table(title: str, encoding: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD if encoding.lower().startswith("utf") else box.ASCII2,
        title=title,
        title_justify="left",
        title_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _plain(text: Any, encoding: str) -> Any:
    from rich.text import Text

    plain = encoding.lower().startswith("utf")
    words = text if plain else text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    return Text(words)  # brackets are no markup
