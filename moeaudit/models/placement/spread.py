"""Layers spread over several devices by accelerate: what leaves one comes back to where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from ..anatomy import Kept
from .device import input_device, loading_hooks

if TYPE_CHECKING:
    from torch import nn


# Where what a spread model's experts are given is looked at and answered, whichever device they compute on.
HOME: Kept[torch.device] = Kept()


def returning(hf: nn.Module) -> set[torch.device]:
    """Have every module that accelerate runs on a device of its own return its results to its caller's.

    Between decoder layers rows, positions and routing then stand on one device, whoever computes. What is moved are
    activations; inside a layer nothing is. Returns the devices that compute.
    """
    hooks: list[Any] = [hook for module in hf.modules() for hook in loading_hooks(module)]
    found = {torch.device(hook.execution_device) for hook in hooks}
    if len(found) > 1:
        home = input_device(hf)
        for hook in hooks:
            hook.io_same_device = True
        for module in hf.modules():
            HOME.keep(module, home)
    return found


def at_home(module: nn.Module, *values: Any) -> tuple[Any, ...]:
    """Tensors, alone or in tuples, where a spread model's walks stand; as they are for any other model."""
    home = HOME.of(module)
    if home is None:
        return values
    return tree_map(lambda x: x.to(home) if isinstance(x, torch.Tensor) else x, values)
