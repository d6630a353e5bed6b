"""The table of a pruning curve on the terminal: the whole model, random choices, each criterion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from moeaudit.pruning.result import PruneCurve

NARROW = 98  # columns below which some numbers are left to the tables of --out
LONGEST = 24  # letters of a name that are kept on one line


def cost_tables(curve: PruneCurve, width: int, encoding: str = "utf-8") -> Group:
    """A table for each scope and depth, every criterion beside the whole model and random choices, and a key.

    Nothing is cut: on a narrow terminal some columns are left out, and long words are folded.
    """
    from rich.console import Group
    from rich.text import Text

    from moeaudit.report.pruning.words import DEPTHS, SCOPES, luck, rows_of
    from moeaudit.report.words.numbers import percent

    unicode, wide = encoding.lower().startswith("utf"), width >= NARROW
    rows = rows_of(curve)
    blocks = list(dict.fromkeys((r["scope"], r["depth"]) for r in rows))
    parts: list[Any] = []
    for scope, depth in blocks:
        title = f"{DEPTHS[depth]}, {SCOPES[scope]}"
        mine = [r for r in rows if (r["scope"], r["depth"]) == (scope, depth)]
        parts.append(_table(curve, mine, title if len(blocks) > 1 else None, unicode, wide))
    level = percent(curve.level, 0)
    named = [r for r in rows if r["kind"] == "criterion"]
    key = [f"{word}: {why}." for word, why in dict.fromkeys(luck(r, curve.margin) for r in named)]
    if any(r["kind"] == "random" for r in rows):
        key.append(
            f"random: mean of the draws, and the middle {level} of them; of criteria {level} limits by documents."
        )
    if not wide:
        key.append("KL and draws beaten stand in the tables of --out.")
    parts += [Text(line if unicode else _plain(line)) for line in key]
    return Group(*parts)


def _table(
    curve: PruneCurve, rows: list[dict[str, Any]], title: str | None, unicode: bool, wide: bool
) -> Table:
    from rich import box
    from rich.table import Table

    from moeaudit.report.pruning.words import luck
    from moeaudit.report.words.numbers import fixed, percent

    table = Table(
        box=box.SIMPLE_HEAD if unicode else box.ASCII2,
        title=None if title is None else title[0].upper() + title[1:],
        title_justify="left",
        title_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    names = max(len(_name(r)) for r in rows)
    table.add_column("criterion", overflow="fold", min_width=min(names, LONGEST))
    numbers: dict[str, Any] = {"justify": "right", "overflow": "fold"}
    table.add_column("stay", no_wrap=True, **numbers)
    table.add_column("perplexity", no_wrap=True, **numbers)
    table.add_column(f"loss added,\nnats a token\n[{percent(curve.level, 0)}]", **numbers)
    if wide:
        table.add_column("KL,\nnats a\ntoken", no_wrap=True, **numbers)
    table.add_column("beside\nrandom,\nnats a\ntoken", no_wrap=True, **numbers)
    if wide:
        table.add_column("draws\nbeaten", no_wrap=True, **numbers)
    table.add_column("better\nthan luck?", overflow="fold", min_width=15)
    for i, row in enumerate(rows):
        if row["kind"] == "whole" and i:
            table.add_section()
            continue
        stay = "1" if row["kind"] == "whole" else f"{row['keep']:g}"
        added = _added(row) if wide else _added(row).replace(" [", "\n[")
        cells = [_name(row), stay, fixed(row["ppl"], 3), added]
        cells += [_of(row, "kl", 4, False)] if wide else []
        cells += [_of(row, "vs_random", 4, True)]
        cells += [_of(row, "better_than_random", 0, False)] if wide else []
        cells += [luck(row, curve.margin)[0] if row["kind"] == "criterion" else ""]
        table.add_row(*(text if unicode else _plain(text) for text in cells))
    return table


def _added(row: dict[str, Any]) -> str:
    from moeaudit.report.words.numbers import estimate

    return "" if row["kind"] == "whole" else estimate(row["d_nll"], row["low"], row["high"])


def _of(row: dict[str, Any], name: str, decimals: int, sign: bool) -> str:
    from moeaudit.report.words.numbers import fixed, percent

    value = row.get(name)
    if value is None or value != value:
        return ""
    return percent(value, 0) if name == "better_than_random" else fixed(value, decimals, sign)


def _name(row: dict[str, Any]) -> str:
    return "random" if row["kind"] == "random" else str(row["criterion"])


def _plain(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
