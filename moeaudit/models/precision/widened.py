"""A half-precision model run in float32, one decoder layer's weights at a time.

Half precision hides what mixes tokens: a state-space layer of small weights moves a residual by less
than its last place. In float32 it shows, and a model of any size can be looked at so, because no
more than one layer (and what stands around the layers: embedding, last norm, head) is widened at
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .explained import is_half

if TYPE_CHECKING:
    from ..model import Model


class Cast:
    """The modules' own half-precision tensors, made another kind of number in place and put back."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        # A tensor of the module by name, what it was, and its data. Hooks that bring weights put new
        # tensors under the name, of the kind that stands there.
        self.changed: list[tuple[dict[str, Any], str, torch.Tensor, torch.Tensor]] = [
            (place, name, tensor, tensor.data)
            for module in modules
            for place in (module._parameters, module._buffers)  # noqa: SLF001
            for name, tensor in place.items()
            if tensor is not None and is_half(tensor.dtype)
        ]

    def to(self, kind: torch.dtype) -> None:
        """Have all of them in `kind`, from what is stored; what is brought comes in it as it stands, now and later."""
        for place, name, tensor, before in self.changed:
            tensor.data = before.to(
                kind
            )  # not from the kind tried before, which may have rounded more
            now = place[name]
            if now is not tensor and now is not None:
                now.data = now.data.to(kind)

    def undo(self) -> None:
        for place, name, tensor, before in self.changed:
            tensor.data = before
            now = place[name]
            if now is not tensor and now is not None:
                now.data = now.data.to(before.dtype)
        self.changed = []


class Wide:
    """What is widened now: what stands around the layers, and at most one decoder layer."""

    def __init__(self, around: Cast) -> None:
        self.around = around
        self.layer: Cast | None = None
        self._module: torch.nn.Module | None = None

    def widen(self, layer: torch.nn.Module, args: tuple) -> None:  # noqa: ARG002 -- a hook
        if self._module is not layer:
            self.narrow()
            self._module, self.layer = layer, Cast(layer.modules())
            self.layer.to(torch.float32)

    def narrow(self) -> None:
        if self.layer is not None:
            self.layer.undo()
        self._module = self.layer = None


@contextmanager
def in_float32(model: Model) -> Iterator[Wide]:
    """Inside, forwards of `model` compute in float32 from the same weights; all are put back after.

    Weights that accelerate keeps elsewhere are widened as they are brought. The model must not be
    moved inside.
    """
    layers = model.anatomy.decoder_layers
    inside = {id(module) for layer in layers for module in layer.modules()}
    wide = Wide(Cast(module for module in model.hf.modules() if id(module) not in inside))
    with ExitStack() as stack:
        stack.callback(wide.around.undo)
        stack.callback(wide.narrow)
        wide.around.to(torch.float32)
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(wide.widen, prepend=True).remove)
        yield wide
