"""Memory that is free in the process and not handed back to the machine."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

LARGE = 1 << 20  # numbers of a table, from which on handing back is worth a millisecond


def hand_back() -> None:
    """Give free blocks of the heap back, where the C library can (glibc's `malloc_trim`).

    Tables of logits are freed text by text, but small blocks that are kept stand between them, and glibc takes new
    memory for the next one: 26 MB a text of 24 tokens over 49,152 words, 6 GB in an audit of a 0.7 GB model.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None  # another C library: it keeps what it keeps
