"""The kind of number a loaded checkpoint computes in, chosen and put into effect where memory allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from moeaudit.errors import OutOfMemory

from ..placement.fits import bytes_in, said, usable
from ..placement.stream import stream_of
from ..placement.summary import quantised_by
from .chosen import Precision, choose_kind, named, recast
from .explained import is_half

if TYPE_CHECKING:
    from ..model import Model
    from ..placement.asked import Asked


class TooLarge(Exception):
    """The model does not fit whole in the kind of number that was chosen; a layer at a time may."""

    def __init__(self, chosen: Precision) -> None:
        super().__init__(chosen)
        self.chosen = chosen


def settled(model: Model, asked: Asked) -> Precision | None:
    """Choose what `model` computes in and have it do so; None for one that is not in half precision.

    Also None for a model that is quantised or spread over devices: it computes as it is. Where there is no
    room for the kind that was chosen, TooLarge is raised for a model that may be streamed and is not yet; any
    other stays as stored, and `why` says so.
    """
    if not is_half(model.dtype) or quantised_by(model.hf) or asked.device_map is not None:
        return None
    try:
        found = choose_kind(model)
    except OutOfMemory:
        # Of memory no verdict is made: it computes as stored, and that nothing was measured is said.
        stays = named(model.dtype)
        return Precision(stays, stays, why="there was no memory to measure another kind in")
    kind = getattr(torch, found.computes)
    if kind == model.dtype:
        return found
    streamed = stream_of(model.hf)
    if streamed is not None:
        streamed[0].release()
    more = _more(model, kind)
    room = usable(model.device) if asked.max_memory is None else asked.budget - _now(model)
    if more > room:
        if asked.offload == "auto" and streamed is None:
            raise TooLarge(found)
        why = (
            f"{found.computes} takes {said(more)} more on {model.device}, which has {said(max(0, room))}"
            + (" and offload=None forbids streaming" if asked.offload is None else "")
        )
        return replace(found, computes=named(model.dtype), why=why)
    recast(model, kind)
    return found


def _now(model: Model) -> int:
    """Bytes that stand on the device at once, as the model is."""
    return _standing(model, model.dtype)


def _more(model: Model, kind: torch.dtype) -> int:
    """Bytes by which that grows in `kind`."""
    return _standing(model, kind) - _now(model)


def _standing(model: Model, kind: torch.dtype) -> int:
    tensors = {id(x): x for x in (*model.hf.parameters(), *model.hf.buffers())}
    found = stream_of(model.hf)
    if found is None:
        return sum(bytes_in(x, kind) for x in tensors.values())
    layers = [[slot.away for slot in layer.slots.values()] for layer in found[0].layers]
    away = {id(x) for layer in layers for x in layer}
    around = sum(bytes_in(x, kind) for i, x in tensors.items() if i not in away)
    ahead = max(layer.stored_bytes for layer in found[0].layers)
    return around + max(sum(bytes_in(x, kind) for x in layer) for layer in layers) + ahead
