"""The kind of number that a half-precision checkpoint is computed in: the fastest here that keeps its effects.

Half precision rounds effects, by how much depends on the model and the device; so it is measured on a sample of
removals (`sampled`), and a kind is taken only where the median effect is off by no more than a tenth of the
median size of effects. Rounding that is independent of an effect then adds about a hundredth to its variance.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .explained import is_half
from .fast import HALVES, fast_halves
from .sampled import InKind, sampled

if TYPE_CHECKING:
    from ..model import Model

_LOG = logging.getLogger("moeaudit")
# The median error of an effect, of the median size of effects, up to which a kind of number is taken.
SHARE = 0.1
# float32 is kept unless it takes this many times as long: less is within what timing is off by.
FASTER = 1.5
# The largest number in a residual stream of the sample may be this part of what float16 can hold.
HEADROOM = 1 / 16


@dataclass(frozen=True)
class Tried:
    """One kind of number on the sampled removals.

    `off` is the median difference of an effect from float32's (nats), `share` the same of the median size of an
    effect, `elsewhere` how many removed experts this kind did not choose (such an effect is off by its whole
    size), `seconds` the batch's way through all decoder layers. `why` says why it is not taken; empty if it may be.
    """

    off: float | None
    share: float | None
    elsewhere: int
    seconds: float | None
    why: str = ""


@dataclass(frozen=True)
class Precision:
    """What a checkpoint in half precision is computed in, and the evidence.

    `effect` is the median size of the sampled effects in float32 (nats), `seconds` what the check took.
    """

    stored: str
    computes: str
    removals: int = 0
    effect: float | None = None
    tried: dict[str, Tried] = field(default_factory=dict)
    seconds: float = 0.0
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As a record keeps it: numbers and words."""
        tried = {kind: vars(each).copy() for kind, each in self.tried.items()}
        return {**vars(self), "tried": tried, "allowed": SHARE}

    def __str__(self) -> str:
        same = self.stored == self.computes
        said = f"stored and computed in {self.computes}" if same else (
            f"stored in {self.stored} and computed in {self.computes}"
        )  # fmt: skip
        halves = [_said(kind, each) for kind, each in self.tried.items() if kind != "float32"]
        measured = (
            f"; on {self.removals} removals beside float32 (median effect {self.effect:.1e} nats, {SHARE:.0%} of it "
            f"allowed) {'; '.join(halves)}"
            if halves and self.effect is not None
            else ""
        )
        return f"{said}{f' because {self.why}' if self.why else ''}{measured}"


def _said(kind: str, each: Tried) -> str:
    if each.off is None or each.share is None or each.seconds is None:
        return f"{kind} could not be tried ({each.why})"
    return (
        f"{kind} is off by {each.off:.1e} nats at the median, {each.share:.1%} of it, in "
        f"{1000 * each.seconds:.3g} ms a batch" + (f" ({each.why})" if each.why else "")
    )


def candidates(model: Model) -> list[torch.dtype]:
    """Half-precision kinds that are tried for `model`: those that its device computes fast.

    float16 has eight times bfloat16's digits and a smaller range. It is no candidate for a class of which
    transformers keeps other modules in float32 there.
    """
    stored, hf = model.dtype, model.hf
    plans = [hf._get_dtype_plan(kind) for kind in HALVES]  # noqa: SLF001
    alike = plans[0].keys() == plans[1].keys()
    return [kind for kind in fast_halves(model.device) if kind == stored or alike]


def choose_kind(model: Model) -> Precision:
    """What `model`, as it stands in half precision, should compute in. One pass over its weights, or none."""
    since, stored = time.perf_counter(), named(model.dtype)
    kinds = candidates(model)
    if not kinds:
        why = f"this {_device(model.device)} has no units for half precision"
        return Precision(stored, "float32", why=why)
    words = " and ".join(named(kind) for kind in kinds)
    _LOG.info("%s: trying %s beside float32 on sampled removals", model.name, words)
    sample = sampled(model, kinds)
    exact = sample.found.pop(torch.float32)
    effect = float(np.median(np.abs(exact.effects)))
    tried = {"float32": Tried(0.0, 0.0, 0, exact.seconds)}
    for kind in kinds:
        seen = sample.found.get(kind)
        tried[named(kind)] = (
            Tried(None, None, 0, None, sample.failed[kind])
            if seen is None
            else _tried(kind, seen, exact, effect, sample.largest)
        )
    taken = fastest(tried)
    took = round(time.perf_counter() - since, 3)
    return Precision(stored, taken, len(exact.effects), effect, tried, took)


def _tried(kind: torch.dtype, seen: InKind, exact: InKind, effect: float, largest: float) -> Tried:
    size = np.abs(exact.effects)
    off = np.where(seen.here, np.abs(seen.effects - exact.effects), size)
    typical = float(np.median(off))
    share = typical / effect if effect > 0 else float("inf")
    elsewhere, most = int((~seen.here).sum()), torch.finfo(kind).max
    if not np.isfinite(seen.effects).all():
        return Tried(None, None, elsewhere, None, "effects are NaN or infinite in it")
    why = ""
    if largest > HEADROOM * most:
        why = f"numbers reach {largest:.1e} and it ends at {most:.1e}"
    elif not share <= SHARE:
        why = "more than allowed"
    elif not exact.seconds >= FASTER * seen.seconds:
        why = f"float32 takes {1000 * exact.seconds:.3g} ms"
    return Tried(typical, share, elsewhere, seen.seconds, why)


def fastest(tried: dict[str, Tried]) -> str:
    """The fastest kind that may be taken; of kinds about as fast the one that is off by least."""
    may = {kind: t for kind, t in tried.items() if not t.why and t.seconds is not None}
    best = min(t.seconds for t in may.values() if t.seconds is not None)
    near = {k: t for k, t in may.items() if t.seconds is not None and t.seconds <= FASTER * best}
    return min(near, key=lambda kind: near[kind].share or 0.0)


def named(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def recast(model: Model, kind: torch.dtype) -> None:
    """Have `model` compute in `kind` for good: weights in memory are made it, those that are streamed come in it."""
    from ..placement.stream import stream_of

    hf = model.hf
    found = stream_of(hf)
    if found is not None:
        found[0].release()
    for tensor in (*hf.parameters(), *hf.buffers()):
        if is_half(tensor.dtype):
            tensor.data = tensor.data.to(kind)
    for config in {id(c): c for c in (hf.config, hf.config.get_text_config())}.values():
        config.dtype = kind


def _device(device: torch.device) -> str:
    return "CPU" if device.type == "cpu" else f"device ({device})"
