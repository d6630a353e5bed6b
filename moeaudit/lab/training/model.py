"""A freshly initialised model of transformers' own class that trains with the kernels of this room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from . import kernels

ROUTER = "mlp.gate"  # what the router is called in all three families


def router_layers(model: torch.nn.Module) -> dict[int, torch.nn.Module]:
    """The routers of a model by decoder layer; none in a dense one."""
    return {
        int(name.split(".")[-3]): module
        for name, module in model.named_modules()
        if name.endswith(ROUTER)
    }


@dataclass
class Routers:
    """Collects (logits, index) of every router during a forward pass, by decoder layer."""

    model: torch.nn.Module
    seen: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _handles: list[RemovableHandle] = field(default_factory=list)

    def __post_init__(self) -> None:
        for layer, module in router_layers(self.model).items():
            self._handles.append(module.register_forward_hook(self._keep(layer)))

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _keep(self, layer: int) -> Callable[..., None]:
        def hook(
            _module: torch.nn.Module, _args: Any, output: tuple[Tensor, Tensor, Tensor]
        ) -> None:
            logits, _weights, index = output
            self.seen[layer] = (logits.float(), index)

        return hook


def quiet() -> None:
    """Keep transformers from printing progress bars and advice, for commands of this room."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build(config: Any, seed: int) -> Any:
    """A freshly initialised model of this configuration that trains on the CPU with the kernels of this room."""
    model = initialised(config, seed)
    dress(model)
    return model


def initialised(config: Any, seed: int, device: str = "cpu") -> Any:
    """A freshly initialised model, still on the CPU, so that a seed means the same weights on every device.

    Projections that write to the residual stream start smaller, by 1 / sqrt(2 layers). Elsewhere than on the CPU
    the class's own attention and experts will run.
    """
    from transformers import AutoModelForCausalLM

    kernels.register()
    config.use_cache = False
    torch.manual_seed(seed)
    ours = {"attn_implementation": kernels.ATTENTION, "experts_implementation": kernels.EXPERTS}
    model = AutoModelForCausalLM.from_config(config, **(ours if on_cpu(device) else {}))
    shrink = (2 * config.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for path, p in model.named_parameters():
            if path.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
                p.mul_(shrink)
    return model


def dress(model: torch.nn.Module, device: str = "cpu") -> None:
    """Routers in float32, as in the models' own training, and on the CPU the norm of this room."""
    kind = torch.device(device).type
    for path, module in model.named_modules():
        if path.endswith(ROUTER):
            module.forward = torch.autocast(kind, enabled=False)(module.forward)
        if on_cpu(device) and type(module).__name__.endswith("RMSNorm"):
            module.forward = kernels.norm_forward(module)


def on_cpu(device: str) -> bool:
    """Whether a device is the CPU, where the kernels of this room run."""
    return torch.device(device).type == "cpu"
