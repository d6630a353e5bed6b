"""What stands in memory during a walk, whether weights are streamed, and how often they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moeaudit.models.accounting.shapes import Shapes

from .machine import Machine

# Blocks of activations, attention scores, experts' outputs and logits, besides the rows themselves.
BLOCKS = 1 << 30
RESIDUAL = 4  # bytes of one number of a row's residual: float32


@dataclass(frozen=True)
class Memory:
    """Bytes of a walk on one machine.

    `weights`: the whole model; `resident`: what of it stands on the device; `rows`: the residuals of one
    document's rows and clean tokens; `blocks`: working space. `streams`: weights pass through, two decoder
    layers at a time. `at_once`: documents of one walk (a fraction where one document takes several walks).
    `least`: what a walk cannot do with less of. `walks`: how many there are, on one of the workers.
    """

    weights: float | int
    resident: float | int
    rows: float | int
    blocks: float | int
    free: float | int
    streams: bool
    at_once: float | int
    walks: int
    least: float | int
    allowed: bool = True  # the weights that stand there are within what was set for them
    keeps: bool = False  # streamed layers stay in memory as they are stored, and are read once

    @property
    def fits(self) -> bool:
        """Whether a walk is possible at all."""
        return self.least <= self.free and self.allowed

    @property
    def peak(self) -> float:
        """Bytes at the peak with as many documents a walk as are planned."""
        return self.resident + self.blocks + self.rows * self.at_once

    @property
    def read(self) -> float:
        """Bytes of weights that pass through the device on one worker."""
        return self.weights * (self.walks if self.streams and not self.keeps else 1)


def memory_of(
    shapes: Shapes,
    rows: float | int,
    tokens: float | int,
    documents: int,
    item: float | int,
    machine: Machine,
    compute: float | int | None = None,
    budget: float | int | None = None,
    offload: str | None = "auto",
    widest: float | int | None = None,
) -> Memory:
    """Plan the memory of walks over `documents` documents of `rows` rows and `tokens` tokens each.

    `item`: bytes of a stored weight; `compute`: bytes of one in which products are made, where that is
    another kind (a CPU without bfloat16 units brings one layer at a time to float32). `budget`: bytes that
    weights may take; `offload`: "auto" streams what does not fit, "stream" always, None never. `widest`: bytes of
    a weight for which `load` wants room where it may widen half precision (`sources.streamed.most_in`); a model
    that fits only as it is stored is then kept so, and widened one layer at a time.
    """
    weights, wide = shapes.parameters * item, max(item, widest or item)
    whole = shapes.parameters * wide
    copy = shapes.largest * compute if compute and compute != item else 0.0
    one = (rows + tokens) * shapes.hidden * RESIDUAL
    mine = math.ceil(documents / machine.workers)
    blocks = BLOCKS + copy
    passing = 2 * shapes.largest * item + shapes.outside * wide
    large = whole + blocks + min(one, BLOCKS) > machine.memory
    streams = offload == "stream" or (
        offload is not None and (large or (budget is not None and whole > budget))
    )
    held = shapes.outside * wide + (shapes.parameters - shapes.outside) * item
    room = machine.memory - blocks - min(one, BLOCKS) if budget is None else budget
    keeps = streams and offload == "auto" and wide > item and held <= room
    resident = (held if keeps else min(passing, whole)) if streams else whole
    # Rows of one document can be cut into several walks; a block of them must stand.
    stands = whole if offload is None else min(passing, whole)
    least = stands + blocks + min(one, BLOCKS)
    room = max(machine.memory - resident - blocks, min(one, BLOCKS))
    at_once = min(float(mine), room / one)
    at_once = math.floor(at_once) if at_once >= 1 else at_once
    return Memory(
        weights=weights,
        resident=resident,
        rows=one,
        blocks=blocks,
        free=machine.memory,
        streams=streams,
        at_once=at_once,
        walks=max(1, math.ceil(mine / at_once)),
        least=least,
        allowed=budget is None or resident <= budget,
        keeps=keeps,
    )
