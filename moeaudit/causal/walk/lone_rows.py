"""Can a row pass through a decoder layer alone? Asked of each layer, whatever its weights' size."""

from __future__ import annotations

from typing import Any

import torch

from moeaudit.models.precision import rounding

from ..attention.reroute import RowsDoNotHold, RowState
from .wavefront import Wavefront


class LoneRows(Wavefront):
    """A walk in which each layer gets the clean tokens as rows, each with a row of noise beside it.

    In a layer that mixes tokens through the attention function alone, the clean rows come out as
    the clean tokens did. A convolution or a recurrence over tokens would carry the noise over.
    """

    def check(self) -> None:
        """Raise RowsDoNotHold, naming the layer, if the first MoE layer or one above it mixes."""
        self.errors: dict[int, float] = {}
        self.run_clean()
        first = min(self.selected)
        for i, error in self.errors.items():
            if i >= first and not error <= 1:
                layer = self.plan.model.anatomy.decoder_layers[i]
                hooks = (*layer._forward_hooks.values(), *layer._forward_pre_hooks.values())  # noqa: SLF001
                # This package's own (those that widen a half-precision layer) are no part of the model.
                hooked = any(not str(h.__module__).startswith("moeaudit.") for h in hooks)
                why = (
                    "carries hooks that rows cannot follow"
                    if hooked
                    else "mixes tokens outside of attention"
                )
                raise RowsDoNotHold(f"decoder layer {i} ({type(layer).__name__}) {why}")

    def _on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            clean_in = self._hidden(args, kwargs)[0, self.positions]  # (positions, ...)
            clean_out = (output[0] if isinstance(output, tuple) else output)[0, self.positions]
            noise = torch.randn(clean_in.shape, generator=torch.Generator().manual_seed(i))
            noise = noise.to(clean_in) * clean_in.float().std().to(clean_in)
            call, at = (i, state, layer, args, kwargs), self.positions[:, None]
            alone = self._through(*call, clean_in[:, None, None], at)[:, 0, 0]
            pair = torch.stack([clean_in, noise], 1)[:, :, None]
            beside = self._through(*call, pair, at)[:, 0, 0]
            # Rounding follows the size of the numbers; what is carried over follows the layer's work.
            done = float((clean_out - clean_in).float().abs().max())
            size = float(clean_out.float().abs().max())
            # A layer that mixes tokens outside of attention is off by about as much as it does.
            share, floor = rounding(clean_out).row
            allowed = max(share * done + floor * size, 1e-30)
            off = max(float((x - clean_out).float().abs().max()) for x in (alone, beside))
            self.errors[i] = off / allowed
            state.clean.clear()
            self.busy = False

        return hook
