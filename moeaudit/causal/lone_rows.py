"""Can a row pass through a decoder layer alone? Asked of each layer, whatever its weights' size."""

from __future__ import annotations

from typing import Any

import torch

from .attention import RowsDoNotHold, RowState
from .wavefront import Wavefront

# Error allowed relative to what the layer does to its input; a layer that mixes tokens outside of
# attention is off by about as much as it does.
_ALLOWED = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.1}


class LoneRows(Wavefront):
    """A walk in which each layer gets the clean tokens as rows, each with a row of noise beside it.

    In a layer that mixes tokens through the attention function alone, the clean rows come out as
    the clean tokens did. A convolution or a recurrence over tokens would carry the noise over.
    """

    def check(self) -> None:
        """Raise RowsDoNotHold, naming the layer, if some layer above the first MoE layer mixes."""
        self.errors: dict[int, float] = {}
        self.run_clean()
        first = min(self.selected)
        allowed = _ALLOWED.get(self.plan.model.dtype, 1e-3)
        for i, error in self.errors.items():
            if i > first and not error <= allowed:
                kind = type(self.plan.model.anatomy.decoder_layers[i]).__name__
                raise RowsDoNotHold(f"decoder layer {i} ({kind}) mixes tokens outside of attention")

    def _on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            clean_in = self._hidden(args, kwargs)[0, self.positions]  # (positions, ...)
            clean_out = (output[0] if isinstance(output, tuple) else output)[0, self.positions]
            noise = torch.randn(clean_in.shape, generator=torch.Generator().manual_seed(i))
            noise = noise.to(clean_in) * clean_in.float().std().to(clean_in)
            rows = self._through(i, state, layer, args, kwargs, torch.stack([clean_in, noise], 1))
            done = (clean_out - clean_in).float().abs().max().clamp_min(1e-20)
            self.errors[i] = float((rows[:, 0] - clean_out).float().abs().max() / done)
            state.clean.clear()
            self.busy = False

        return hook
