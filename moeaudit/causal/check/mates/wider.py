"""The same module in float64: rounding shrinks with the digits, a dependence does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from moeaudit.models.precision import not_memory

# Modules of more weights than this are not copied: 2**28 weights are 2 GiB in float64.
MOST = 1 << 28


class _NoFloat32(TorchFunctionMode):
    """While active, what asks for float32 by name (softmax of routers, norms) gets float64."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "float" and args:
            return args[0].double()
        wide = tuple(torch.float64 if each is torch.float32 else each for each in args)
        named = {
            name: torch.float64 if each is torch.float32 else each
            for name, each in (kwargs or {}).items()
        }
        return func(*wide, **named)


def widened(module: nn.Module) -> nn.Module | str:
    """A copy of `module` in float64, or why there is none."""
    tensors = [*module.parameters(), *module.buffers()]
    count = sum(x.numel() for x in tensors)
    if count > MOST:
        return f"{count / 1e6:,.0f} M weights are not copied to float64 (at most {MOST / 1e6:,.0f} M are)"
    if any(x.is_meta for x in tensors):
        return "its weights stand aside"
    odd = {x.dtype for x in tensors if x.is_floating_point() and x.element_size() == 1}
    if odd:
        return f"its weights are in {odd.pop()}, which has no float64 copy"
    try:
        return copy.deepcopy(module).double()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        not_memory(error, f"copying {type(module).__name__} to float64")
        return f"{type(module).__name__} has no float64 copy ({type(error).__name__}: {error})"


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside, nothing falls back to float32 (on a module that is in float64)."""
    with _NoFloat32():
        yield
