"""The table of verdicts on the terminal: one row per metric and control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from moeaudit.report.words.evidence import Evidence


def verdict_table(evidence: Evidence, encoding: str = "utf-8") -> Table:
    """Layers by verdict and the largest d_z, for each outcome; two of them fit 80 columns."""
    from moeaudit.report.words.answer import verdict_table as rows
    from moeaudit.report.words.evidence import metric_name, outcome_name
    from moeaudit.report.words.verdicts import SIGNS

    plain = not encoding.lower().startswith("utf")
    signs = {verdict: letter if plain else sign for verdict, (sign, _, letter) in SIGNS.items()}
    key = "  ".join(f"{sign} {verdict}" for verdict, sign in signs.items())
    table = Table(
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        caption=f"layers by verdict: {key}{_held_out(evidence)}",
        caption_justify="left",
        caption_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("metric", no_wrap=True)
    for outcome in evidence.outcomes:
        name = outcome_name(outcome).lower()
        table.add_column("disturb." if name == "disturbance" else name, no_wrap=True)
        table.add_column("largest d_z", justify="right", no_wrap=True)
    previous = "metric"
    for row in rows(evidence):
        if row["role"] != previous:
            table.add_section()
            previous = row["role"]
        name, _ = metric_name(row["metric"])
        label = f"{name} (control)" if row["role"] == "control" else name
        cells = [
            text
            for outcome in evidence.outcomes
            for text in (_counts(row[outcome], signs), _largest(row[outcome]))
        ]
        table.add_row(label, *cells)
    return table


def _counts(entry: dict[str, Any], signs: dict[str, str]) -> str:
    counts = entry["verdicts"]
    return " ".join(f"{sign}{counts[v]}" for v, sign in signs.items() if counts.get(v))


def _largest(entry: dict[str, Any]) -> str:
    from moeaudit.report.words.numbers import fixed

    found = entry["best"]
    return "-" if found is None else f"{fixed(found['d_z'], 2, True)} in {found['layer']}"


def _held_out(evidence: Evidence) -> str:
    """The largest of all contrasts of an outcome in documents that had no part in picking it."""
    from moeaudit.report.words.evidence import outcome_name
    from moeaudit.report.words.largest import of_family

    found = [(o, evidence.strongest(o, None)) for o in evidence.outcomes]
    parts = [
        f"{outcome_name(o).lower()} {text}"
        for o, best in found
        if best is not None and (text := of_family(best))
    ]
    if not parts:
        return ""
    return (
        "\nlargest d_z of all, picked in one half of the documents and read in the other: "
        f"{', '.join(parts)}"
    )
