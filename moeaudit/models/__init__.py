"""What is audited: loading a model, finding its MoE layers, verifying the router contract.

Each name is imported on first use: to list the bundled models needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bundled import bundled_figures as bundled_figures
from .bundled import bundled_models as bundled_models

if TYPE_CHECKING:
    from .anatomy import Anatomy as Anatomy
    from .anatomy import MoELayer as MoELayer
    from .loading import load as load
    from .model import Model as Model

__all__ = ["Anatomy", "Model", "MoELayer", "bundled_figures", "bundled_models", "load"]

_FROM = {"Anatomy": ".anatomy", "MoELayer": ".anatomy", "Model": ".model", "load": ".loading"}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_FROM[name], __name__), name)
    globals()[name] = found
    return found
