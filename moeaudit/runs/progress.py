"""How an audit tells what it is doing. The command line draws it; a library caller gets a log."""

from __future__ import annotations

import logging
import time
from typing import Protocol, runtime_checkable

from moeaudit.frames.pace import held as held

log = logging.getLogger("moeaudit")


@runtime_checkable
class Progress(Protocol):
    """Stages follow each other; each has a known amount of work in a unit."""

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        """A stage begins: `total` units of work, of which `done` were kept from before."""
        ...

    def advance(self, amount: int) -> None:
        """`amount` units of the current stage are done."""
        ...

    def note(self, message: str) -> None:
        """Something the user should know now."""
        ...


class LogProgress:
    """Progress as lines on the logger "moeaudit" (INFO; notes as WARNING)."""

    def __init__(self) -> None:
        self._name, self._unit, self._total, self._done, self._since = "", "", 0, 0, 0.0
        self._kept = 0

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self._name, self._unit, self._total, self._done = name, unit, total, done
        self._kept = done
        self._since = time.perf_counter()
        log.info("%s: %s %s", name, f"{total:,}", unit)

    def advance(self, amount: int) -> None:
        self._done += amount
        seconds = max(time.perf_counter() - self._since, 1e-9)
        rate = (self._done - self._kept) / seconds
        log.info(
            "%s: %s of %s %s after %.0f s, %s/s, %.0f s left, %s",
            self._name,
            f"{self._done:,}",
            f"{self._total:,}",
            self._unit,
            seconds,
            f"{rate:,.3g}" if rate < 1000 else f"{rate:,.0f}",
            max(0, self._total - self._done) / max(rate, 1e-9),
            held(),
        )

    def note(self, message: str) -> None:
        log.warning(message)
