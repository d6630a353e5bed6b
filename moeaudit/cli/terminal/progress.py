"""Progress on a terminal as a live line, elsewhere as plain lines without control codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console
from rich.live import Live
from rich.text import Text

from moeaudit.frames.pace import Pace
from moeaudit.frames.pace import clock as clock
from moeaudit.frames.waiting import stages

EVERY = 10.0  # seconds between plain lines


class ConsoleProgress(Pace):
    """Implements `moeaudit.runs.Progress` on a Rich console (stderr)."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.live: Live | None = None
        self.told = 0.0
        self._alone = ExitStack()

    def __enter__(self) -> ConsoleProgress:
        self._alone.enter_context(stages(self))  # calls inside show no line of their own
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=8, transient=True)
            self.live.__enter__()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        with self._alone:
            if kind is None:
                self._end_stage()
            if self.live is not None:
                self.live.__exit__(None, None, None)

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self._end_stage()
        self.begin(name, total, unit, done)
        self.told = self.since
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

    def _show(self) -> None:
        if self.live is not None:
            self.live.update(Text(self.line(), no_wrap=True, overflow="ellipsis"))

    def _end_stage(self) -> None:
        if not self.name:
            return
        self.console.print(self.ended(), highlight=False, markup=False, soft_wrap=True)
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
