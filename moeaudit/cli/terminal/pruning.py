"""The table of a pruning curve on the terminal: the whole model, random choices, each criterion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from moeaudit.pruning.result import PruneCurve

NARROW = 100  # columns below which KL is left to the tables of --out


def cost_table(curve: PruneCurve, width: int, encoding: str = "utf-8") -> Table:
    """Every criterion beside the whole model and random choices. Names are never cut."""
    from rich import box
    from rich.table import Table

    from moeaudit.report.pruning.words import luck, rows_of
    from moeaudit.report.words.numbers import fixed, percent

    unicode = encoding.lower().startswith("utf")
    rows = rows_of(curve)
    named = [r for r in rows if r["kind"] == "criterion"]
    words = dict.fromkeys(luck(r, curve.margin) for r in named)
    key = [f"{word}: {meaning}." for word, meaning in words]
    level = percent(curve.level, 0)
    if any(r["kind"] == "random" for r in rows):
        key.append(
            f"random: mean of the draws, and the middle {level} of them; of criteria {level} limits by documents."
        )
    wide = width >= NARROW
    if not wide:
        key.append("KL stands in the tables of --out.")
    table = Table(
        box=box.SIMPLE_HEAD if unicode else box.ASCII2,
        caption="\n".join(key),
        caption_justify="left",
        caption_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    places = [name for name in ("scope", "depth") if len({r[name] for r in rows}) > 1]
    heads = ["stay", "perplexity", "loss added\nnats/token", f"\n[{level}]"]
    heads += ["KL\nnats/token"] if wide else []
    heads += ["less random\nnats/token", "draws\nbeaten"]
    table.add_column("criterion", no_wrap=True, min_width=max(len(_name(r)) for r in rows))
    for name in places:
        table.add_column("layers" if name == "depth" else name, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    table.add_column("better\nthan luck?")
    cell: Any = None
    for i, row in enumerate(rows):
        if row["kind"] == "whole" and i:
            table.add_section()
            continue
        low_high = "" if row["kind"] == "whole" else _limits(row)
        cells = [
            _name(row),
            *(("" if row["kind"] == "whole" else row[name]) for name in places),
            "1" if row["kind"] == "whole" else f"{row['keep']:g}",
            fixed(row["ppl"], 3),
            "" if row["kind"] == "whole" else fixed(row["d_nll"], 4, True),
            low_high,
            *(["" if row["kind"] == "whole" else fixed(row["kl"], 4)] if wide else []),
            _of(row, "vs_random", lambda v: fixed(v, 4, True)),
            _of(row, "better_than_random", lambda v: percent(v, 0)),
            luck(row, curve.margin)[0] if row["kind"] == "criterion" else "",
        ]
        table.add_row(*(text if unicode else _plain(text) for text in cells))
        cell = row
    assert cell is not None
    return table


def _name(row: dict[str, Any]) -> str:
    return "random" if row["kind"] == "random" else str(row["criterion"])


def _limits(row: dict[str, Any]) -> str:
    from moeaudit.report.words.numbers import fixed

    return f"[{fixed(row['low'], 4, True)}, {fixed(row['high'], 4, True)}]"


def _of(row: dict[str, Any], name: str, write: Any) -> str:
    value = row.get(name)
    return "" if row["kind"] != "criterion" or value is None or value != value else write(value)


def _plain(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
