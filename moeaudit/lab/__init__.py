"""The lab: small MoEs trained from a recipe, so that what a system claims can be put through an audit.

`import moeaudit.lab as lab`. The names below are public; each is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mue import CompleteMuE as CompleteMuE
    from .mue import coordinate_check as coordinate_check
    from .mue import multipliers as multipliers
    from .mue import parameterisation as parameterisation
    from .mue import rate_sweep as rate_sweep
    from .pools import Pool as Pool
    from .pools import pool as pool
    from .recipes import ARMS as ARMS
    from .recipes import Arm as Arm
    from .recipes import Recipe as Recipe
    from .recipes import recipe as recipe
    from .scaling import Law as Law
    from .scaling import effective_experts as effective_experts
    from .scaling import fit_law as fit_law
    from .trainer import train as train
    from .training.mechanism import MECHANISMS as MECHANISMS
    from .training.mechanism import Batch as Batch
    from .training.mechanism import Mechanism as Mechanism
    from .training.mechanism import Routed as Routed
    from .tying import post_hoc_tying as post_hoc_tying
    from .tying import tie as tie
    from .tying import tied_groups as tied_groups
    from .tying import untie as untie
    from .upcycling import build as build
    from .upcycling import expert_distances as expert_distances
    from .upcycling import train_experts as train_experts
    from .upcycling import upcycle as upcycle

_PLACE_OF = {
    "ARMS": "recipes",
    "Arm": "recipes",
    "Recipe": "recipes",
    "recipe": "recipes",
    "Pool": "pools",
    "pool": "pools",
    "train": "trainer",
    "CompleteMuE": "mue",
    "coordinate_check": "mue",
    "multipliers": "mue",
    "parameterisation": "mue",
    "rate_sweep": "mue",
    "Law": "scaling",
    "effective_experts": "scaling",
    "fit_law": "scaling",
    "MECHANISMS": "training.mechanism",
    "Batch": "training.mechanism",
    "Mechanism": "training.mechanism",
    "Routed": "training.mechanism",
    "post_hoc_tying": "tying",
    "tie": "tying",
    "tied_groups": "tying",
    "untie": "tying",
    "build": "upcycling",
    "expert_distances": "upcycling",
    "train_experts": "upcycling",
    "upcycle": "upcycling",
}

__all__ = list(_PLACE_OF)


def __getattr__(name: str) -> Any:
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module 'moeaudit.lab' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{place}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
