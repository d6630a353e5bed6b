"""From a dense language model to a mixture of experts of the same function.

Each name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .building import BUILT as BUILT
    from .building import build as build
    from .convert import upcycle as upcycle
    from .distance import expert_distances as expert_distances
    from .router import kmeans_rows as kmeans_rows
    from .tune import Tuning as Tuning
    from .tune import train_experts as train_experts

_FROM = {
    "BUILT": "building",
    "Tuning": "tune",
    "build": "building",
    "expert_distances": "distance",
    "kmeans_rows": "router",
    "train_experts": "tune",
    "upcycle": "convert",
}
__all__ = sorted(_FROM)


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{_FROM[name]}", __name__), name)
    globals()[name] = found
    return found
