"""Can a row pass through a decoder layer alone? Asked of each layer, whatever its weights' size."""

from __future__ import annotations

from typing import Any

import torch

from moeaudit.models.precision import not_memory, rounding

from ..attention.reroute import RowsDoNotHold, RowState
from .layout import hidden_path, map_tensors
from .wavefront import Wavefront

# Of a text's tokens, how many may come out otherwise: where two experts tie to the last digits, a row
# may go to another one than its token did. What mixes tokens moves nearly all of them.
_TIED = 0.1


class LoneRows(Wavefront):
    """A walk in which each layer gets the clean tokens as rows, each with a row of noise beside it.

    In a layer that mixes tokens through the attention function alone, the clean rows come out as
    the clean tokens did. A convolution or a recurrence over tokens would carry the noise over.
    Sums depend a little on how many tokens go together (a GPU chooses its kernels by that), so the
    layer also gets the text twice, as a batch, and what that changes is allowed besides.
    """

    def check(self) -> None:
        """Raise RowsDoNotHold, naming the layer, if the first MoE layer or one above it mixes."""
        # By decoder layer: how far each token's row is off, and what rounding explains, (positions,).
        self.errors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.run_clean()
        first = min(self.selected)
        for i, (off, allowed) in self.errors.items():
            wrong = ~(off <= allowed)
            if i >= first and int(wrong.sum()) > _TIED * len(off):
                layer = self.plan.model.anatomy.decoder_layers[i]
                hooks = (*layer._forward_hooks.values(), *layer._forward_pre_hooks.values())  # noqa: SLF001
                # This package's own (those that widen a half-precision layer) are no part of the model.
                hooked = any(not str(h.__module__).startswith("moeaudit.") for h in hooks)
                why = (
                    "carries hooks that rows cannot follow"
                    if hooked
                    else "mixes tokens outside of attention"
                )
                worst = int((off / allowed).nan_to_num(nan=torch.inf).argmax())
                raise RowsDoNotHold(
                    f"decoder layer {i} ({type(layer).__name__}) {why} ({int(wrong.sum())} of {len(off)} tokens "
                    f"come out otherwise as rows, by {float(off[worst]):.1e} where rounding of "
                    f"{str(_dtype(layer)).removeprefix('torch.')} explains {float(allowed[worst]):.1e})"
                )

    def on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            clean_in = self.hidden(args, kwargs)[0, self.positions]  # (positions, ...)
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
            off = _off(alone, clean_out).maximum(_off(beside, clean_out))
            batched = self._in_a_batch(state, layer, args, kwargs)
            noise = torch.zeros_like(off) if batched is None else _off(batched, clean_out)
            self.errors[i] = (off, allowed + 4 * noise)
            state.clean.clear()
            self.busy = False

        return hook

    def _in_a_batch(
        self, state: RowState, layer: Any, args: tuple, kwargs: dict
    ) -> torch.Tensor | None:
        """What the clean tokens come to when the layer gets the text twice, `"positions ..."`.

        None for a layer that other arguments hold to one text.
        """
        at_hidden = hidden_path(args, kwargs)

        def doubled(path: Any, tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor, tensor]) if path == at_hidden else tensor

        more_args, more_kwargs = map_tensors(doubled, (args, kwargs))
        was, state.idle = state.idle, True  # the clean keys are those of the text alone
        try:
            result = layer(*more_args, **more_kwargs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            not_memory(error, "running a decoder layer on two copies of a short text")
            return None
        finally:
            state.idle = was
        return (result[0] if isinstance(result, tuple) else result)[0, self.positions]


def _off(rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The largest difference of each row, (positions,); NaN where one side is."""
    return (rows - tokens).float().abs().flatten(1).amax(1)


def _dtype(layer: torch.nn.Module) -> torch.dtype | None:
    """The kind of number that a layer computes in: that of its first weight."""
    return next((p.dtype for p in layer.parameters() if p.is_floating_point()), None)
