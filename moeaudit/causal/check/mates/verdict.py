"""One row: a sample alone, beside copies of itself, beside others, and where these differ in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from moeaudit.models.precision import not_memory, rounding

from .compare import Apart, Seen, apart
from .result import DEPENDS, INDEPENDENT, ROUNDING, UNDECIDED
from .wider import in_float64, widened

AS_IT_IS = "as it is"
# Between float32 and float64 rounding shrinks by 2**29, between bfloat16 and float64 by more; a dependence by nothing.
_SHRINKS = 2.0**12

# A batch "samples tokens ..." -> what was seen of each sample.
Pass = Callable[[torch.Tensor], "list[Seen]"]


def compared(
    run: Callable[[nn.Module, torch.Tensor], list[Seen]],
    batch: torch.Tensor,
    module: nn.Module,
    named: str,
    layer: int | None,
) -> dict[str, Any]:
    """One row of the table."""

    def here(rows: torch.Tensor) -> list[Seen]:
        return run(module, rows)

    alone = [here(batch[i : i + 1])[0] for i in range(len(batch))]
    same = _beside_copies(here, batch, alone)
    mates = _beside_others(here, batch, alone)
    routed = alone[0].index is not None
    row = {
        "experts": named,
        "layer": layer,
        "tokens": mates.tokens,
        "moved": mates.moved if routed else None,
        "weight": mates.weight if routed else None,
        "output": mates.output,
        "same_moved": same.moved if routed else None,
        "same_output": same.output,
        "wide_moved": None,
        "wide_output": None,
        "reason": None,
    }
    explained = rounding(alone[0].output).output
    # Copies are mates, too: where room is limited they take it from each other, which no rounding does.
    plain = same.moved == 0 and same.output <= explained
    if plain and mates.moved == 0 and mates.output <= same.output and mates.weight <= same.weight:
        return row | {"verdict": INDEPENDENT}
    copied = widened(module)
    if isinstance(copied, str):
        return row | {"verdict": UNDECIDED, "reason": copied}
    wide, how = _in_float64(run, copied, batch, named)
    if isinstance(wide, str):
        return row | {"verdict": UNDECIDED, "reason": wide}
    row |= {"wide_moved": wide.moved - wide.tied if routed else None, "wide_output": wide.output}
    if wide.moved > wide.tied or wide.output * _SHRINKS > max(mates.output, same.output):
        return row | {"verdict": DEPENDS}
    if how != named and mates.output > explained:
        why = f"{named} does not compute in float64, and {mates.output:.1e} is more than rounding explains"
        return row | {"verdict": UNDECIDED, "reason": why}
    return row | {"verdict": ROUNDING}


def _beside_copies(run: Pass, batch: torch.Tensor, alone: list[Seen]) -> Apart:
    """What the shape alone does: each sample beside one copy of itself and as many as there are samples."""
    found = Apart()
    for i, one in enumerate(alone):
        for copies in sorted({2, len(batch)}):
            rows = batch[i : i + 1].repeat(copies, *[1] * (batch.dim() - 1))
            for other in run(rows):
                found |= apart(one, other)
    return found


def _beside_others(run: Pass, batch: torch.Tensor, alone: list[Seen]) -> Apart:
    """Each sample beside each one other, and beside all others, in both orders."""
    found, n = Apart(), len(batch)
    orders = [list(range(n)), list(reversed(range(n)))]
    orders += [[i, (i + 1) % n] for i in range(n)]
    for order in orders:
        for place, other in zip(order, run(batch[order])):
            found |= apart(alone[place], other)
    return found


def _in_float64(
    run: Callable[[nn.Module, torch.Tensor], list[Seen]],
    copied: nn.Module,
    batch: torch.Tensor,
    named: str,
) -> tuple[Apart | str, str]:
    wide = batch.double() if batch.is_floating_point() else batch

    def beside(rows: torch.Tensor) -> list[Seen]:
        return run(copied, rows)

    said = ""
    for how in dict.fromkeys((named, "eager")):
        config = any(
            hasattr(getattr(m, "config", None), "_experts_implementation") for m in copied.modules()
        )
        using = nullcontext() if how == AS_IT_IS or not config else _set(copied, how)
        try:
            with using, in_float64():
                alone = [beside(wide[i : i + 1])[0] for i in range(len(wide))]
                found = _beside_others(beside, wide, alone) | _beside_copies(beside, wide, alone)
                return found, how
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            not_memory(error, "running in float64")
            said = said or f"it does not compute in float64 ({first_line(error)})"
    return said, named


@contextmanager
def _set(copied: nn.Module, how: str) -> Iterator[None]:
    """The copy's own configurations, which nobody else holds, say how experts are computed."""
    for module in copied.modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_experts_implementation_internal"):
            config._experts_implementation_internal = how  # noqa: SLF001
    yield


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
