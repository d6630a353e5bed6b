"""A half-precision model run in float32, one decoder layer's weights at a time.

Half precision hides what mixes tokens: a state-space layer of small weights moves a residual by less
than its last place. In float32 it shows, and a model of any size can be looked at so, because no
more than one layer (and what stands around the layers: embedding, last norm, head) is widened at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from moeaudit.models import Model
from moeaudit.models.precision import is_half


@contextmanager
def in_float32(model: Model) -> Iterator[None]:
    """Inside, forwards of `model` compute in float32 from the same weights; all are put back after.

    Weights that accelerate keeps elsewhere are widened as they are brought. The model must not be
    moved inside.
    """
    layers = model.anatomy.decoder_layers
    inside = {id(module) for layer in layers for module in layer.modules()}
    around = [module for module in model.hf.modules() if id(module) not in inside]
    wide: list[tuple[torch.nn.Module, Callable[[], None]]] = []

    def widen(layer: torch.nn.Module, args: tuple) -> None:  # noqa: ARG001
        if wide and wide[-1][0] is layer:
            return
        narrow()
        wide.append((layer, _widened(layer.modules())))

    def narrow() -> None:
        while wide:
            wide.pop()[1]()

    with ExitStack() as stack:
        stack.callback(_widened(around))
        stack.callback(narrow)
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(widen, prepend=True).remove)
        yield


def _widened(modules: Iterable[torch.nn.Module]) -> Callable[[], None]:
    """Make the modules' own half-precision tensors float32; returns what undoes it."""
    # A tensor of the module by name, what it was, and its dtype. Hooks that bring weights put new
    # tensors under the name, of the kind that stands there.
    changed: list[tuple[dict[str, Any], str, torch.Tensor, torch.Tensor]] = []
    for module in modules:
        for place in (module._parameters, module._buffers):  # noqa: SLF001
            for name, tensor in place.items():
                if tensor is not None and is_half(tensor.dtype):
                    changed.append((place, name, tensor, tensor.data))
                    tensor.data = tensor.data.float()

    def undo() -> None:
        for place, name, tensor, before in changed:
            tensor.data = before
            now = place[name]
            if now is not tensor and now is not None:
                now.data = now.data.to(before.dtype)

    return undo
