"""How an audit tells what it is doing. The command line draws it; a library caller gets a log."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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


def held() -> str:
    """The memory that this process holds, such as `3.1 GB held` or `3.1 GB and 12 GB on the GPU held`."""
    said = f"{_resident() / 1e9:.2g} GB"
    torch: Any = sys.modules.get("torch")  # a process that has not loaded it holds nothing there
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        said += f" and {torch.cuda.memory_reserved() / 1e9:.2g} GB on the GPU"
    return f"{said} held"


def _resident() -> int:
    """Bytes in memory; where the system does not tell, the most there ever were."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
