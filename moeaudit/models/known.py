"""Models that were looked at already: their anatomy, kept as long as they live."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import nn

    from .anatomy import Anatomy

_KNOWN: WeakKeyDictionary[nn.Module, Anatomy] = WeakKeyDictionary()


def remember(hf: nn.Module, anatomy: Anatomy) -> None:
    """Keep what was found; inside a trace of another library no forward can be run to find it."""
    _KNOWN[hf] = anatomy


def known_anatomy(hf: nn.Module) -> Anatomy | None:
    """The anatomy that `load` found in this very module, or None if it was never loaded."""
    return _KNOWN.get(hf)
