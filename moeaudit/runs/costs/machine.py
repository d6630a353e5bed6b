"""What computes: how fast, with how much memory, and how fast weights arrive. Stated ones, and this one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moeaudit.errors import InputError, one_of

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """A machine, or several of one kind.

    `rate`: floating-point operations a second that a census sustains (not the peak on a data sheet).
    `memory`: bytes free for weights and the walk on the device that computes. `read`: bytes a second
    that weights come at from where they are stored; `host`: bytes of host memory beside a card's own
    (0 where the device is the host), from which weights come at `link` bytes a second. `workers`:
    how many of these share the documents. `how`: where the figures come from.
    """

    name: str
    device: str
    rate: float | int
    memory: float | int
    read: float | int
    host: float | int = 0.0
    link: float | int = 0.0
    workers: int = 1
    how: str = ""

    def __post_init__(self) -> None:
        for what in ("rate", "memory", "read", "workers"):
            if not getattr(self, what) > 0:
                raise InputError(
                    f"A machine's {what} is {getattr(self, what)}; a number above 0 was expected (rate in FLOP/s, "
                    "memory in bytes, read in bytes/s)."
                )

    def streamed_at(self, weights: float | int) -> float:
        """Bytes a second at which `weights` bytes come that do not stay on the device."""
        return self.link if 0 < weights <= 0.9 * self.host else self.read


# What an H100 was measured to sustain over 160 documents of OLMoE-1B-7B; 84 to 110 TFLOP/s over 16 documents of the
# three target models, 124 to 153 on an H200 (docs/gpu.md): a tenth to a fifth of what plain matrix products reach.
SUSTAINED = 100e12
# Assumptions, not measurements: a sustained rate, the memory that is left, an NVMe disk of 3 GB/s.
STATED = {
    "laptop": Machine(
        "laptop", "cpu", 0.4e12, 24 * GB, 3 * GB,
        how="assumed: 8 cores that sustain 0.4 TFLOP/s in float32, 24 GB free, a disk of 3 GB/s",
    ),
    "card-24gb": Machine(
        "card-24gb", "cuda", 50e12, 22 * GB, 3 * GB, host=64 * GB, link=20 * GB,
        how="assumed: a card of the RTX 3090's class that sustains 50 TFLOP/s in bfloat16, 22 GB free, 64 GB "
        "of host memory at 20 GB/s, a disk of 3 GB/s",
    ),
    "h100": Machine(
        "h100", "cuda", SUSTAINED, 76 * GB, 3 * GB, host=200 * GB, link=40 * GB,
        how="assumed: one H100 of 80 GB that sustains 100 TFLOP/s in bfloat16, as one was measured to do, "
        "200 GB of host memory at 40 GB/s, a disk of 3 GB/s",
    ),
    "ray-8": Machine(
        "ray-8", "cuda", SUSTAINED, 76 * GB, 3 * GB, host=200 * GB, link=40 * GB, workers=8,
        how="assumed: a Ray cluster of eight workers, each with one such H100 and a disk of its own",
    ),
}  # fmt: skip


def stated(name: str) -> Machine:
    """A machine by name. Raises InputError, naming those there are."""
    return STATED[one_of(name, STATED, "machine")]


def in_parallel(machine: Machine, workers: int) -> Machine:
    """Several of a machine."""
    return replace(machine, name=f"{workers} x {machine.name}", workers=workers)


def free_memory(device: Any = "cpu", *, root: Path = Path("/")) -> int:
    """Bytes that are free on a device here: of a CPU, what the system and its control group leave."""
    import torch

    where = torch.device(device)
    if where.type == "cuda":
        return int(torch.cuda.mem_get_info(where)[0])
    limits: list[int] = []
    info = _read(root / "proc/meminfo", lambda text: dict(_fields(text)))
    if info and "MemAvailable" in info:
        limits.append(info["MemAvailable"])
    most = _read(root / "sys/fs/cgroup/memory.max", int)
    used = _read(root / "sys/fs/cgroup/memory.current", int)
    if most is not None and used is not None:
        limits.append(max(0, most - used))
    if not limits:  # no /proc: what there is in all
        limits.append(int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES")))
    return min(limits)


def _fields(text: str) -> list[tuple[str, int]]:
    rows = [line.split() for line in text.splitlines() if line.endswith("kB")]
    return [(row[0].rstrip(":"), int(row[1]) * 1024) for row in rows]


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    """What a file of the system says; None where there is none, or it says "max"."""
    try:
        return parse(path.read_text())
    except (OSError, ValueError):
        return None
