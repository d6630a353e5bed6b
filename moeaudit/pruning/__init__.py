"""Pruning experts: criteria, what they cost beside random, and checkpoints without the experts.

Names are imported on first use, so that what was asked can be checked (`asked`) without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .curve import prune_curve as prune_curve
    from .export import export_pruned as export_pruned
    from .result import PruneCurve as PruneCurve

_FROM = {"prune_curve": "curve", "export_pruned": "export", "PruneCurve": "result"}
__all__ = ["PruneCurve", "export_pruned", "prune_curve"]


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'moeaudit.pruning' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_FROM[name]}", __name__), name)
