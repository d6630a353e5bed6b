"""Does a model fit? Bytes that its weights need, whole or streamed, and bytes that are free."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moeaudit.errors import ModelError

from ..precision import is_half

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", 1):
    _UNITS |= {f"{_letter}B": 1000**_power, f"{_letter}IB": 1024**_power, _letter: 1024**_power}
# What is left free for what is computed: rows, logits, a layer's intermediate results.
_RESERVE, _SHARE = 1 << 30, 0.1


@dataclass(frozen=True)
class Need:
    """Bytes of a model's weights on the device, in the dtype that it computes in."""

    whole: int
    around: int  # embedding, last norm, head, and whatever else stays
    layer: int  # the largest decoder layer
    ahead: int  # the largest layer as it is stored, read while another computes
    layers: int

    @property
    def least(self) -> int:
        """The least that a streamed model needs at once."""
        return self.around + self.layer + self.ahead


def bytes_in(x: torch.Tensor, kind: torch.dtype) -> int:
    """Bytes of a tensor that is brought to `kind` if it is in half precision."""
    return x.numel() * (kind.itemsize if is_half(x.dtype) else x.element_size())


def read_size(given: Any) -> int | None:
    """Bytes in "12GiB", "12GB" or a number; None for what is no size."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", str(given))
    unit = None if found is None or isinstance(given, bool) else _UNITS.get(found[2].upper())
    size = 0.0 if found is None or unit is None else float(found[1]) * unit
    return int(size) if 1 <= size < float("inf") else None


def size_of(given: Any) -> int:
    """`read_size` of a `max_memory`. Raises ModelError for what is no size."""
    size = read_size(given)
    if size is None:
        raise ModelError(
            f"max_memory = {given!r} is not a size of memory. Give bytes or a number with a unit, such as '12GiB' or "
            "'800MB'."
        )
    return size


def said(size: int) -> str:
    """A number of bytes in words."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"


def free(device: torch.device) -> int:
    """Bytes that are free on `device` now; for the CPU within what this process may have."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [_available(), *_limits()]
    return min(found)


def usable(device: torch.device) -> int:
    """Of what is free, how much weights may take."""
    there = free(device)
    return max(0, there - max(_RESERVE, int(there * _SHARE)))


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # macOS and others: all of it, since what is free is not told
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 1 << 62


def _limits() -> list[int]:
    """What a container leaves of its limit, where there is one (cgroup v2, then v1)."""
    pairs = (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
    for most, now in pairs:
        root = Path("/sys/fs/cgroup")
        try:
            limit, used = (root / most).read_text().strip(), (root / now).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < 1 << 60:
            return [max(0, int(limit) - int(used) + _cached(root))]
    return []


def _cached(root: Path) -> int:
    """Pages of files, which count as used and are given back when they are needed."""
    try:
        facts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(facts.get("inactive_file", 0)) + int(facts.get("active_file", 0))


def budget_of(max_memory: Any, device: torch.device) -> int | None:
    """The bytes that `max_memory` allows on `device`: one size, or sizes by device; None for no word."""
    if max_memory is None or not isinstance(max_memory, dict):
        return None if max_memory is None else size_of(max_memory)
    return next((size_of(v) for k, v in max_memory.items() if _is(k, device)), None)


def _is(key: Any, device: torch.device) -> bool:
    if isinstance(key, int):
        return device.type != "cpu" and key == (device.index or 0)
    return str(key) == str(device) or (str(key) == device.type and not device.index)


def bytes_by_dtype(stored: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of stored tensors by their kind, the largest first."""
    sizes: dict[str, int] = {}
    for one in stored.values():
        sizes[one.kind] = sizes.get(one.kind, 0) + one.bytes
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))
