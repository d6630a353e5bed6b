"""How far a stage of work is, as one line: share, rate, time left, memory."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any


class Pace:
    """A stage with a known amount of work in a unit, of which some may be kept from before."""

    def __init__(self) -> None:
        self.name, self.unit, self.total = "", "", 0
        self.done = self.kept = 0
        self.since = 0.0

    def begin(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self.name, self.unit, self.total = name, unit, total
        self.done = self.kept = done
        self.since = time.perf_counter()

    def line(self) -> str:
        """`census: 31% of 73,152 removals, 5,210 removals/s, 0:00:10 left, 1.2 GB held`."""
        share = f"{self.done / self.total:.0%}" if self.total else "done"
        text = f"{self.name}: {share} of {self.total:,} {self.unit}"
        seconds = time.perf_counter() - self.since
        fresh = self.done - self.kept
        if fresh and seconds > 0.5:
            rate = fresh / seconds
            text += f", {said_rate(rate)} {self.unit}/s"
            if self.done < self.total:
                text += f", {clock((self.total - self.done) / rate)} left"
            text += f", {held()}"
        return text

    def ended(self) -> str:
        """`census: 73,152 removals in 0:00:14 (5,210 removals/s)`."""
        seconds = time.perf_counter() - self.since
        fresh = self.done - self.kept
        text = f"{self.name}: {self.done:,} {self.unit} in {clock(seconds)}"
        if fresh and seconds > 1:
            text += f" ({said_rate(fresh / seconds)} {self.unit}/s)"
        return text


def said_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def clock(seconds: float) -> str:
    """Seconds as 0:01:30."""
    whole = int(seconds + 0.5)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


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
