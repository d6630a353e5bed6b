"""Memory that runs out is not rounding, and no verdict about a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from moeaudit.errors import OutOfMemory


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in any of the ways in which torch says so; most are RuntimeErrors."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemory)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(sign in said for sign in _FULL)


_FULL = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED")


def not_memory(error: BaseException, doing: str) -> None:
    """Raise OutOfMemory if `error` says that memory ran out `doing` something; else return.

    Stands at every place where an error is read as a verdict about the model.
    """
    if isinstance(error, OutOfMemory):
        raise error
    if is_out_of_memory(error):
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OutOfMemory(
            f"Memory ran out while {doing} ({type(error).__name__}: {first}) Nothing was concluded about the "
            "model and nothing half-done was kept. Use shorter texts (max_length), load the model in "
            "another dtype ('bfloat16' takes half of float32) or onto a device with more memory, or free "
            "what else holds memory there."
        ) from error


@contextmanager
def memory_named(doing: str) -> Iterator[None]:
    """Inside, running out of memory is raised as OutOfMemory, one clear paragraph."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        not_memory(error, doing)
        raise
