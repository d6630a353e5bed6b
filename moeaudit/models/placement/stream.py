"""Decoder layers whose weights come from files: one stands on the device, the next is read meanwhile.

A layer's parameters lie on the meta device until a module inside it is about to run; they are put in
place then, and stay until another layer's are needed. Whoever runs a layer several times in a row (rows
after the clean tokens, experts alone) therefore reads it once, and a walk up the layers reads each once.
A layer whose forward is replaced (as when only the head is run) is not read at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from moeaudit.errors import ModelError

from ..anatomy import Kept
from .fits import said

# From nothing to a layer's parameters by name, on the CPU in the stored dtype, and the bytes read.
Fetch = Callable[[], "tuple[dict[str, torch.Tensor], int]"]


@dataclass
class Slot:
    """Where one parameter stands: under a name of a module, with its place on meta when it is away."""

    module: nn.Module
    name: str
    away: nn.Parameter

    def put(self, value: torch.Tensor) -> None:
        self.module._parameters[self.name] = nn.Parameter(value, requires_grad=False)  # noqa: SLF001

    def clear(self) -> None:
        self.module._parameters[self.name] = self.away  # noqa: SLF001


@dataclass
class Layer:
    """One decoder layer: its streamed parameters by full name, and how they are fetched."""

    slots: dict[str, Slot]
    fetch: Fetch
    stored_bytes: int
    checked: bool = False

    @property
    def bytes(self) -> int:
        """Its size on the device, in the dtype it computes in."""
        return sum(s.away.numel() * s.away.element_size() for s in self.slots.values())


@dataclass
class Traffic:
    """What has been read so far, and for how long computation waited for it."""

    bytes_read: int = 0
    layers_read: int = 0
    seconds_waited: float = 0.0


@dataclass
class _Fetched:
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    bytes: int = 0


class Stream:
    """The layers of one model that take turns on `device`.

    With `keep`, layers once read stay in host memory (pinned for a GPU) and are copied from there.
    """

    def __init__(
        self, name: str, layers: Sequence[Layer], device: torch.device, *, keep: bool = False
    ) -> None:
        self.name, self.layers, self.device, self.keep = name, list(layers), device, keep
        self.traffic = Traffic()
        self._current: int | None = None
        self._held: list[int] = []  # layers that must stay, besides the current one
        self._host: dict[int, dict[str, torch.Tensor]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="moeaudit-weights")
        self._ahead: tuple[int, Future[_Fetched]] | None = None
        self._turn = threading.RLock()
        for i, layer in enumerate(self.layers):
            for module in {id(s.module): s.module for s in layer.slots.values()}.values():
                module.register_forward_pre_hook(self._hook(i))
                _STREAMS.keep(module, (self, i))

    def _hook(self, i: int) -> Callable[..., None]:
        def bring(module: nn.Module, args: tuple) -> None:  # noqa: ARG001
            if self._current != i:
                self.bring(i)

        return bring

    def note(self) -> str:
        """What was done so that the model runs here."""
        kinds = {
            str(s.away.dtype).removeprefix("torch.") for x in self.layers for s in x.slots.values()
        }
        stored = sum(layer.stored_bytes for layer in self.layers)
        largest = max(layer.bytes for layer in self.layers)
        return (
            f"its {len(self.layers)} decoder layers ({said(stored)} in the files) are streamed: one stands on "
            f"{self.device} in {' and '.join(sorted(kinds))} ({said(largest)}) while the next is read"
        )

    def bring(self, i: int) -> None:
        """Have layer i's weights in place, those of the layer before away, and start reading the next."""
        with self._turn:
            if self._current == i or i in self._held:
                return
            before = time.perf_counter()
            fetched = self._fetched(i)
            self.traffic.seconds_waited += time.perf_counter() - before
            self.release()
            self._put(i, fetched)
            self._current = i
            if len(self.layers) > 1:
                after = (i + 1) % len(self.layers)
                self._ahead = (after, self._reader.submit(self._read, after))

    def release(self) -> None:
        """Put the current layer away, unless it is held."""
        if self._current is not None and self._current not in self._held:
            for slot in self.layers[self._current].slots.values():
                slot.clear()
        self._current = None

    @contextmanager
    def holding(self, i: int) -> Iterator[None]:
        """Inside, layer i stays in place, whichever others come and go."""
        self.bring(i)
        self._held.append(i)
        try:
            yield
        finally:
            self._held.remove(i)
            if self._current != i and i not in self._held:
                for slot in self.layers[i].slots.values():
                    slot.clear()

    def _fetched(self, i: int) -> _Fetched:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            found = ahead[1].result()  # also to have one read at a time
            if ahead[0] == i:
                return found
            del found
        return self._reader.submit(self._read, i).result()

    def _read(self, i: int) -> _Fetched:
        """In the reading thread: the layer on the CPU, or on the device if that is another one."""
        kept, read = self._host.get(i), 0
        if kept is None:
            kept, read = self.layers[i].fetch()
            if self.keep:
                if self.device.type == "cuda":
                    kept = {name: x.pin_memory() for name, x in kept.items()}
                self._host[i] = kept
        if self.device.type == "cpu":
            return _Fetched(dict(kept), read)
        return _Fetched(_carried(kept, self.device), read)

    def _put(self, i: int, fetched: _Fetched) -> None:
        layer = self.layers[i]
        self.traffic.bytes_read += fetched.bytes
        self.traffic.layers_read += bool(fetched.bytes)
        for name, slot in layer.slots.items():
            # The kind that stands there now: whoever widens a layer widens its place on meta.
            value = fetched.tensors.pop(name).to(slot.away.dtype)
            if not layer.checked:
                _require_finite(self.name, name, value)
            slot.put(value)
        layer.checked = True


def _carried(tensors: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Copies on a GPU, made on a stream of their own so that they pass while it computes."""
    if device.type != "cuda":
        return {name: x.to(device) for name, x in tensors.items()}
    side = torch.cuda.Stream(device)
    with torch.cuda.stream(side):
        moved = {name: x.to(device, non_blocking=True) for name, x in tensors.items()}
    side.synchronize()
    for x in moved.values():
        x.record_stream(torch.cuda.default_stream(device))
    return moved


def _require_finite(model: str, name: str, value: torch.Tensor) -> None:
    numbers = value.float() if value.element_size() == 1 else value  # float8 has no isfinite
    bad = int((~torch.isfinite(numbers)).sum())
    if bad:
        raise ModelError(
            f"{model}: {bad} of {value.numel()} numbers in the weight '{name}' are NaN or infinite, as "
            f"{str(value.dtype).removeprefix('torch.')}. Finite weights were expected; the checkpoint is damaged or "
            "training diverged. The audit stops here."
        )


_STREAMS: Kept[tuple[Stream, int]] = Kept()


def stream_of(module: nn.Module) -> tuple[Stream, int] | None:
    """The stream that brings this module's weights, or those of a module in it, and its layer; else None."""
    for each in module.modules():
        found = _STREAMS.of(each)
        if found is not None:
            return found
    return None


def traffic(hf: Any) -> Traffic | None:
    """What a streamed model has read so far; None for a model that stands in memory."""
    found = stream_of(hf)
    return None if found is None else found[0].traffic
