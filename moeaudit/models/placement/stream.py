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
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.errors import ModelError

from ..anatomy import Kept
from .files import Area, Stored, room_for
from .fits import said

if TYPE_CHECKING:
    from .assembly import Recipe

Views = dict[Stored, torch.Tensor]


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
    """One decoder layer: its streamed parameters by full name, and how they are made."""

    slots: dict[str, Slot]
    recipes: list[Recipe]
    checked: bool = False

    @property
    def bytes(self) -> int:
        """Its size on the device, in the dtype it computes in."""
        return sum(s.away.numel() * s.away.element_size() for s in self.slots.values())

    @property
    def tensors(self) -> list[Stored]:
        return [one for recipe in self.recipes for one in recipe.tensors]

    @property
    def stored_bytes(self) -> int:
        return sum(one.bytes for one in self.tensors)

    def make(self, views: Views, device: torch.device) -> dict[str, torch.Tensor]:
        """Its parameters, each in the kind that stands there now: whoever widens a layer widens its
        places on meta."""
        kinds = {name: slot.away.dtype for name, slot in self.slots.items()}
        made: dict[str, torch.Tensor] = {}
        for recipe in self.recipes:
            made |= recipe.make(views, kinds, device)
        return made


@dataclass
class Traffic:
    """What has been read so far, and for how long computation waited for it."""

    bytes_read: int = 0
    layers_read: int = 0
    seconds_waited: float = 0.0


class Stream:
    """The layers of one model that take turns on `device`.

    With `keep`, what was read of a layer stays in host memory, pinned for a GPU, and is copied from
    there. With `direct`, files are read past the system's cache.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Layer],
        device: torch.device,
        *,
        keep: bool = False,
        direct: bool = False,
    ) -> None:
        self.name, self.layers, self.device = name, list(layers), device
        self.keep, self.direct = keep, direct
        self.traffic = Traffic()
        self._current: int | None = None
        self._held: list[int] = []  # layers that must stay, besides the current one
        self._host: dict[int, Views] = {}
        self._area: Area | None = None
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
        where = "kept in host memory as they are stored" if self.keep else "in the files"
        then = "brought" if self.keep else "read"
        return (
            f"its {len(self.layers)} decoder layers ({said(stored)} {where}) are streamed: one stands on "
            f"{self.device} in {' and '.join(sorted(kinds))} ({said(largest)}) while the next is {then}"
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
        """In the reading thread: the layer's bytes on the host, or its parameters on a GPU."""
        layer, read = self.layers[i], 0
        views = self._host.get(i)
        if views is None:
            tensors, pinned = layer.tensors, self.device.type == "cuda"
            if self.keep:
                views = Area(room_for(tensors), pinned=pinned).read(tensors, direct=self.direct)
                self._host[i] = views
            else:
                if self._area is None:
                    most = max(room_for(each.tensors) for each in self.layers)
                    self._area = Area(most, pinned=pinned)
                views = self._area.read(tensors, direct=self.direct)
            read = layer.stored_bytes
        if self.device.type == "cpu":
            return _Fetched(read, views=views)
        return _Fetched(read, made=_carried(layer, views, self.device))

    def _put(self, i: int, fetched: _Fetched) -> None:
        layer = self.layers[i]
        self.traffic.bytes_read += fetched.bytes
        self.traffic.layers_read += bool(fetched.bytes)
        made = fetched.made
        if made is None:
            made = layer.make(fetched.views, self.device)
        for name, slot in layer.slots.items():
            value = made.pop(name).to(slot.away.dtype)
            if not layer.checked:
                _require_finite(self.name, name, value)
            slot.put(value)
        layer.checked = True


@dataclass
class _Fetched:
    """A layer as the reading thread hands it over."""

    bytes: int
    views: Views = field(default_factory=dict)
    made: dict[str, torch.Tensor] | None = None


def _carried(layer: Layer, views: Views, device: torch.device) -> dict[str, torch.Tensor]:
    """A layer made on a GPU, on a stream of its own so that copies pass while it computes."""
    if device.type != "cuda":
        return layer.make(views, device)
    side = torch.cuda.Stream(device)
    with torch.cuda.stream(side):
        made = layer.make(views, device)
    side.synchronize()
    for x in made.values():
        x.record_stream(torch.cuda.default_stream(device))
    return made


def _require_finite(model: str, name: str, value: torch.Tensor) -> None:
    numbers = value.float() if value.element_size() == 1 else value  # float8 has no isfinite
    # A sum is not finite if one of its terms is not; it may overflow where all of them are.
    if bool(torch.isfinite(numbers.sum())):
        return
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


def streams_itself(module: nn.Module) -> tuple[Stream, int] | None:
    """The stream that brings the weights of this very module, and its layer; else None."""
    return _STREAMS.of(module)


def traffic(hf: Any) -> Traffic | None:
    """What a streamed model has read so far; None for a model that stands in memory."""
    found = stream_of(hf)
    return None if found is None else found[0].traffic
