"""Progress on a terminal as a live line, elsewhere as plain lines without control codes."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from moeaudit.runs.progress import held

EVERY = 10.0  # seconds between plain lines


class ConsoleProgress:
    """Implements `moeaudit.runs.Progress` on a Rich console (stderr)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.name, self.unit, self.total = "", "", 0
        self.done = self.kept = 0
        self.since = self.told = 0.0

    def __enter__(self) -> ConsoleProgress:
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=8, transient=True)
            self.live.__enter__()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._end_stage()
        if self.live is not None:
            self.live.__exit__(None, None, None)

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self._end_stage()
        self.name, self.unit, self.total = name, unit, total
        self.done = self.kept = done
        self.since = self.told = time.perf_counter()
        if done:
            self.note(f"{name}: {done:,} of {total:,} {unit} kept from before")
        self._show()

    def advance(self, amount: int) -> None:
        self.done += amount
        moment = time.perf_counter()
        if self.live is not None:
            self._show()
        elif moment - self.told >= EVERY and self.done < self.total:
            self.told = moment
            self.console.print(self.line(), highlight=False, markup=False, soft_wrap=True)

    def note(self, message: str) -> None:
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def line(self) -> str:
        """`census: 31% of 73,152 removals, 5,210 removals/s, 0:00:10 left, 1.2 GB held`."""
        share = f"{self.done / self.total:.0%}" if self.total else "done"
        text = f"{self.name}: {share} of {self.total:,} {self.unit}"
        seconds = time.perf_counter() - self.since
        fresh = self.done - self.kept
        if fresh and seconds > 0.5:
            rate = fresh / seconds
            text += f", {_rate(rate)} {self.unit}/s"
            if self.done < self.total:
                text += f", {clock((self.total - self.done) / rate)} left"
            text += f", {held()}"
        return text

    def _show(self) -> None:
        if self.live is not None:
            self.live.update(Text(self.line(), no_wrap=True, overflow="ellipsis"))

    def _end_stage(self) -> None:
        if not self.name:
            return
        seconds = time.perf_counter() - self.since
        fresh = self.done - self.kept
        text = f"{self.name}: {self.done:,} {self.unit} in {clock(seconds)}"
        if fresh and seconds > 1:
            text += f" ({_rate(fresh / seconds)} {self.unit}/s)"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self.name = ""


def counted(progress: ConsoleProgress, name: str) -> Callable[[int, int], None]:
    """A stage told as (done, in all), for work in groups; a handful is not worth a line."""
    done = 0

    def tell(now: int, of: int) -> None:
        nonlocal done
        if of < 10:
            return
        if done == 0:
            progress.stage(name, of, "groups")
        progress.advance(now - done)
        done = now

    return tell


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def clock(seconds: float) -> str:
    """Seconds as 0:01:30."""
    whole = int(seconds + 0.5)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
