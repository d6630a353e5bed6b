"""Random numbers that depend on what is drawn for, never on how positions are batched."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Int

# The constants of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit numbers.
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def splitmix64(z: Int[torch.Tensor, "..."]) -> Int[torch.Tensor, "..."]:
    """Scrambles 64-bit numbers one by one: different numbers give unrelated ones.

    torch shifts signed numbers arithmetically, so the sign's copies are masked away.
    """
    for factor, shift in ((_FIRST, 30), (_SECOND, 27)):
        z = (z ^ _shifted(z, shift)) * factor
    return z ^ _shifted(z, 31)


def _shifted(z: torch.Tensor, by: int) -> torch.Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)


def wrapped(number: int) -> int:
    """A whole number of any size as a signed 64-bit one, as torch wants its scalars."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def document_key(ids: Int[torch.Tensor, "..."]) -> int:
    """A number for a document's tokens: the same wherever the document stands in a corpus."""
    tokens = ids.detach().cpu().numpy().astype(np.int64).tobytes()
    return int.from_bytes(hashlib.blake2b(tokens, digest_size=8).digest(), "little", signed=True)
