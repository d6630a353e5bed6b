"""What a census needs, as one object that shows itself."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from moeaudit.models.accounting.shapes import Shapes

from .flops import Work
from .machine import Machine
from .memory import Memory
from .words import big, duration, flops, rate, size_of


@dataclass(frozen=True)
class Cost:
    """What a census of a model needs; shows itself as a few lines, in a notebook as a table.

    `work` counts rows and operations, `passes` the operations of the clean passes besides (routing and
    metrics), `memory` is the plan of the walks, `needed` how many documents a bound in d_z takes (None: the
    bound needs a pilot). `bytes`: of the checkpoint by dtype, read from its files or reckoned.
    """

    name: str
    origin: str
    shapes: Shapes
    work: Work
    passes: float | int
    memory: Memory
    machine: Machine
    documents: int
    tokens: int
    layers: tuple[int, ...]
    unit: str
    share: float | int
    bytes: dict[str, int]
    needed: int | None
    asked: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def compute_seconds(self) -> float:
        """Seconds of computing, all workers together at work."""
        done = self.work.flops + self.work.apart + self.passes
        return done / (self.machine.rate * self.machine.workers)

    @property
    def read_seconds(self) -> float:
        """Seconds in which weights are read, by one worker."""
        at = self.machine.streamed_at(self.memory.weights) if self.memory.streams else 0.0
        return self.memory.read / (at or self.machine.read)

    @property
    def seconds(self) -> float:
        """Seconds of the census: reading weights goes on beside computing where they are streamed."""
        both = (self.compute_seconds, self.read_seconds)
        return max(both) if self.memory.streams else sum(both)

    @property
    def table(self) -> pd.DataFrame:
        """Columns quantity, value, unit, how."""
        return pd.DataFrame(rows_of(self), columns=["quantity", "value", "unit", "how"])

    def __repr__(self) -> str:
        return "\n".join(lines_of(self))

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in lines_of(self))
        return f"<ul>{lines}</ul>"


def lines_of(cost: Cost) -> list[str]:
    """What an estimate says, line by line."""
    shapes, work, memory, machine = cost.shapes, cost.work, cost.memory, cost.machine
    first = shapes.moe[0]
    by = ", ".join(f"{size_of(n)} in {name}" for name, n in cost.bytes.items())
    whole = "" if len(cost.layers) == len(shapes.moe) else f" of {len(cost.layers)} layers"
    part = "" if cost.share == 1 else f" (a share of {cost.share:g})"
    out = [
        f"{cost.name}: {shapes.architecture}; configuration: {cost.origin}",
        f"Model: {len(shapes.moe)} MoE layers of {len(shapes.layers)}, {first.num_experts} experts, top-"
        f"{first.top_k}; {shapes.parameters:,} parameters, {big(shapes.active)} active; {by}",
        f"Census: {cost.documents:,} documents, {cost.tokens:,} tokens, {work.rows:,} {cost.unit}{whole}{part}",
        f"Work: {flops(work.flops)}, {flops(work.flops / cost.documents)} a document, as much as "
        f"{work.forwards:,.0f} clean forwards; the head takes {work.head_share:.0%}",
        _memory(cost),
        f"Time: about {duration(cost.seconds)} ({rate(cost.work.rows / cost.seconds)} {cost.unit}/s), computing "
        f"{duration(cost.compute_seconds)}, reading weights {duration(cost.read_seconds)}"
        + ("" if memory.fits else "; it does not fit, so this is what it would take if it did"),
        f"Machine: {machine.name}; {machine.how}",
        _needed(cost),
    ]
    return out + [f"Note: {note}" for note in cost.notes]


def _memory(cost: Cost) -> str:
    memory = cost.memory
    free = f"{size_of(memory.free)} may be used on {cost.machine.device}"
    if not memory.fits and not memory.streams and memory.weights + memory.blocks > memory.free:
        return (
            f"Memory: does not fit without streaming; weights take {size_of(memory.weights)}, {size_of(memory.least)} "
            f"are the least, and {free}"
        )
    if not memory.allowed:
        return (
            f"Memory: does not fit in what was set for weights (max_memory); {size_of(memory.resident)} of them stand "
            f"there at once{', streamed two layers at a time' if memory.streams else ''}"
        )
    if not memory.fits:
        return (
            f"Memory: does not fit; {size_of(memory.least)} are the least, with weights streamed two layers at a "
            f"time, and {free}"
        )
    docs = (
        f"{memory.at_once:,.0f} documents a walk"
        if memory.at_once >= 1
        else f"{1 / memory.at_once:,.1f} walks a document"
    )
    if memory.keeps:
        how = f"weights ({size_of(memory.weights)}) fit as they are stored and are widened a layer at a time"
    elif memory.streams:
        how = (
            f"weights ({size_of(memory.weights)}) are streamed, {memory.walks:,} time(s), {size_of(memory.resident)} "
            "of them resident"
        )
    elif memory.resident > memory.weights:
        how = (
            f"weights ({size_of(memory.weights)}) fit in float32, too ({size_of(memory.resident)})"
        )
    else:
        how = f"weights fit ({size_of(memory.weights)})"
    return (
        f"Memory: {how}; {size_of(memory.rows)} a document's rows, {docs}; peak about {size_of(memory.peak)}, "
        f"{size_of(memory.least)} at least; {free}"
    )


def _needed(cost: Cost) -> str:
    asked = cost.asked
    if cost.needed is None:
        return (
            f"Documents needed: a bound of {asked['sesoi']} needs the noise of a run: moeaudit plan --pilot RUN "
            f"--sesoi {asked['sesoi']}"
        )
    whole = "" if cost.share == 1 else ", with all removals made"
    return (
        f"Documents needed: {cost.needed:,} to decide each of {asked['metrics'] * len(cost.layers)} contrasts for "
        f"{asked['sesoi']} in d_z (power {asked['power']:g}, alpha {asked['alpha']:g} over the family, a design effect "
        f"of {asked['design_effect']:g} assumed{whole}; --pilot RUN measures it)"
    )


def rows_of(cost: Cost) -> list[tuple[str, Any, str, str]]:
    """(quantity, value, unit, how) for a table."""
    work, memory = cost.work, cost.memory
    return [
        ("documents", cost.documents, "documents", "asked for, or what the text leaves"),
        ("tokens", cost.tokens, "tokens", "all documents"),
        ("rows", work.rows, cost.unit, "tokens with a target x edits of a layer"),
        ("parameters", cost.shapes.parameters, "weights", "the class built without weights"),
        ("active", cost.shapes.active, "weights", "used by one token"),
        ("stored", sum(cost.bytes.values()), "bytes", ", ".join(cost.bytes)),
        ("work", work.flops, "FLOP", "matrix products, clean pass and rows"),
        ("clean passes", cost.passes, "FLOP", "routing and metrics"),
        ("clean forwards", work.forwards, "forwards", "of the same documents"),
        ("head", work.head_share, "share", "of the work"),
        ("memory", memory.peak, "bytes", "streamed" if memory.streams else "whole model"),
        ("least memory", memory.least, "bytes", "two layers and one document's rows"),
        ("free memory", memory.free, "bytes", cost.machine.device),
        ("walks", memory.walks, "walks", f"{memory.at_once:g} documents each"),
        ("read", memory.read, "bytes", "weights, by one worker"),
        ("rate", cost.machine.rate, "FLOP/s", cost.machine.how),
        ("time", cost.seconds, "seconds", "computing and reading weights"),
        ("documents needed", cost.needed, "documents", f"{cost.asked['sesoi']} decided"),
    ]
