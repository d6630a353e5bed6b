"""`moeaudit doctor`: what is installed, what this machine has, and what can be audited on it."""

from __future__ import annotations

from typing import Any

from ..terminal.document import Json, document
from ..terminal.examples import examples


@examples("moeaudit doctor", "moeaudit doctor --json > machine.json")
def doctor(json: Json = False) -> None:
    """Say what is installed, what this machine has, and which models can be audited on it: whole in memory, streamed
    layer by layer from their files, or not. Nothing is downloaded, and nothing is written."""
    from .machine import found

    told = found()
    if json:
        document("doctor", **told)
    else:
        _show(told)


def _show(told: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from ..terminal.console import console, say

    screen = console()
    say(screen, f"moeaudit {told['packages']['moeaudit']}, Python {told['python']}", style="bold")
    say(screen, f"Platform: {told['platform']}")
    code = told["code"]
    say(
        screen, f"Code: {code['reason'] or code['commit'][:12] + ', changed' * bool(code['dirty'])}"
    )
    for title, names in (("Packages", "packages"), ("Extras", "extras")):
        known = [f"{k} {v or 'not installed'}" for k, v in told[names].items() if k != "moeaudit"]
        say(screen, f"{title}: {', '.join(known)}")
    for device in told["devices"]:
        say(
            screen,
            f"Device {device['name']}: {device['says']}, {_bytes(device['free_bytes'])} free",
        )
    waits = ", ".join(f"{k}={v}" for k, v in told["waiting"].items() if v is not None)
    say(screen, f"Threads: {told['threads']} of {told['cores']} cores; waiting threads: {waits}")
    for place, free in told["disk"].items():
        say(screen, f"Disk: {_bytes(free)} free in {place}")
    say(screen, f"Browser for `moeaudit open`: {told['browser'] or 'none; it prints the path'}")
    say(screen, f"Bundled models: {', '.join(told['bundled']) or 'none'}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("model", "on", "audit here"):
        table.add_column(name, overflow="fold")
    for name in ("weights", "least memory"):
        table.add_column(name, justify="right")
    for row in told["audits"]:
        cells = [_bytes(row[name]) for name in ("weights_bytes", "least_bytes")]
        table.add_row(row["model"], row["device"], row["how"], *cells)
    screen.print(table)
    say(
        screen,
        "An audit of 160 documents of 128 tokens; `moeaudit plan MODEL` says what one takes.",
    )
    for note in told["notes"]:
        say(screen, f"Note: {note}")


def _bytes(n: float | None) -> str:
    from moeaudit.runs.costs.words import size_of

    return "unknown" if n is None else size_of(n)
