"""What each MoE layer did in the clean pass over one chunk.

All of it is read through hooks on the experts, the router and the decoder layer, so nothing here
knows an architecture. The hooks are gone when the pass is over, also when it fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from moeaudit.errors import ContractError
from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import ExpertsSeen, clean_pass, evaluating, listening
from moeaudit.models.placement.spread import at_home
from moeaudit.models.precision import units


@dataclass
class LayerRecord:
    """What one MoE layer saw and did.

    `residual` is the residual stream that the block's output is added to, or None and the reason.
    """

    hidden: Float[Tensor, "time d_model"]
    index: Tensor  # "time top_k", integer
    weight: Float[Tensor, "time top_k"]
    routed: Float[Tensor, "time d_model"]
    router_calls: list[tuple[Tensor, Any]] = field(default_factory=list)
    residual: Float[Tensor, "time d_model"] | None = None
    residual_reason: str | None = None


def layer_records(
    model: Model, ids: Int64[Tensor, "1 time"]
) -> tuple[Float[Tensor, "time vocab"], dict[int, LayerRecord]]:
    """Logits of one chunk and one record per MoE layer, keyed by decoder layer index.

    Raises:
        ContractError: an MoE layer whose experts were not called exactly once in the forward.
    """
    watchers = [LayerWatcher(model, layer) for layer in model.anatomy.layers]
    with evaluating(model.hf), contextlib.ExitStack() as stack:
        for watcher in watchers:
            stack.enter_context(watcher.watching())
        logits, _ = clean_pass(model, (), ids)
    return logits, {watcher.layer.index: watcher.record() for watcher in watchers}


class LayerWatcher:
    """Collects one layer's part of a forward pass."""

    def __init__(self, model: Model, layer: MoELayer) -> None:
        self.layer = layer
        self.decoder_layer = model.hf.get_submodule(layer.path)
        self.block = model.hf.get_submodule(layer.experts_path.rpartition(".")[0])
        self.calls: list[ExpertsSeen] = []
        self.routed: list[Tensor] = []
        self.router_calls: list[tuple[Tensor, Any]] = []
        self.earlier: list[tuple[Tensor, Tensor]] = []  # (input, output) of modules before experts
        self.residual: Tensor | None = None
        self.residual_reason: str | None = None
        self.block_output: Tensor | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        handles = [
            self.layer.experts.register_forward_hook(self._experts_done),
            self.block.register_forward_hook(
                lambda _module, _args, output: setattr(self, "block_output", _first(output))
            ),
            self.decoder_layer.register_forward_hook(self._layer_done),
        ]
        if self.layer.router is not None:
            handles.append(
                self.layer.router.register_forward_hook(self._router_done, with_kwargs=True)
            )
        for module in self._candidates():
            handles.append(module.register_forward_hook(self._module_called, with_kwargs=True))
        try:
            with listening([self.layer], self._experts_called, as_given=True):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _candidates(self) -> Iterator[nn.Module]:
        """Modules of the decoder layer whose output could be what the experts read."""
        block = set(self.block.modules())
        for module in self.decoder_layer.modules():
            if module is not self.decoder_layer and module not in block:
                yield module

    def _module_called(self, _module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        given = next(iter((*args, *kwargs.values())), None)
        if not isinstance(given, Tensor) or not isinstance(output, Tensor) or self.calls:
            return
        if given.shape == output.shape:
            self.earlier.append((given, output))

    def _router_done(self, _module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        self.router_calls.append((next(iter((*args, *kwargs.values()))), output))

    def _experts_called(self, _layer: MoELayer, seen: ExpertsSeen) -> None:
        hidden = seen.hidden.reshape(-1, seen.hidden.shape[-1])
        rows = len(hidden)
        answer = (seen.index.reshape(rows, -1), seen.weight.reshape(rows, -1))
        self.calls.append(ExpertsSeen(hidden, *answer))
        # The norm in front of the block is the module whose output the experts read; what went
        # into it is the residual stream. Identities (dropout in evaluation mode) are passed over.
        for before, after in self.earlier:
            same = after.data_ptr() == hidden.data_ptr() and after.numel() == hidden.numel()
            if same and before.data_ptr() != after.data_ptr():
                self.residual = before.reshape(hidden.shape).clone()
                break
        self.earlier.clear()

    def _experts_done(self, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        # A copy, because many blocks add the shared expert to this very tensor in place.
        self.routed.append(output.reshape(-1, output.shape[-1]).clone())

    def _layer_done(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Keep the residual stream only where the block's output is really added to it."""
        residual, block, after = self.residual, self.block_output, _first(output)
        self.residual = self.block_output = None
        if residual is None:
            self.residual_reason = "no normalisation module in front of the block feeds the experts"
        elif block is None or block is after:
            self.residual_reason = "the experts' block is not a module inside the decoder layer"
        else:
            expected = residual + block.reshape(residual.shape)
            tolerance = units(residual, 64) * float(expected.abs().max())
            if float((after.reshape(residual.shape) - expected).abs().max()) <= tolerance:
                self.residual = residual
            else:
                self.residual_reason = "the block's output is not simply added to the residual"

    def record(self) -> LayerRecord:
        if len(self.calls) != 1 or len(self.routed) != 1:
            raise ContractError(
                f"The experts of layer {self.layer.index} ({self.layer.experts_path}, "
                f"{type(self.layer.experts).__name__}) were called {len(self.calls)} times in one "
                "forward. Expected exactly one call per layer; a model that runs its experts "
                "several times, or not at all, cannot be captured."
            )
        seen, home = self.calls[0], partial(at_home, self.layer.experts)
        hidden, index, weight, routed, residual = home(
            seen.hidden, seen.index, seen.weight, self.routed[0], self.residual
        )
        calls: list[Any] = [home(*call) for call in self.router_calls]
        return LayerRecord(hidden, index, weight, routed, calls, residual, self.residual_reason)


def _first(output: Any) -> Tensor:
    """Decoder layers and blocks return a tensor or a tuple that starts with it."""
    return output[0] if isinstance(output, tuple) else output
