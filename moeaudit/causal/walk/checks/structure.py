"""What a model's layers do with rows: one pass over its weights, whatever their size, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from moeaudit.models import MoELayer
from moeaudit.models.precision import not_memory, rounding

from ...attention.reroute import RowsDoNotHold, RowState
from ..births import births_by_rerun, routed_change, routing_at
from ..layout import Layout, hidden_path, map_tensors, shapes_of
from ..plan import WalkPlan
from ..wavefront import Wavefront
from .aside import ERRORS, called_aside, same_besides

# Of a text's tokens, how many may come out otherwise: where two experts tie to the last digits, a row
# may go to another one than its token did. What mixes tokens moves nearly all of them.
_TIED = 0.1


class LaidOutOtherwise(Exception):
    """The layers are called with other arguments than when they stand aside."""


@dataclass(frozen=True)
class Structure:
    """How rows come through a model's layers, found in one forward of a short text."""

    layout: Layout
    # Per MoE layer: by how much the routed output enters the layer's output. 1 for a plain residual, Granite's
    # multiplier for Granite; None where a removal is no multiple of the removed contribution.
    residual_scale: dict[int, float | None]
    # Whether layers called one after the other are the model (`several.together`): each gets what the one
    # before returned, and besides it what it gets where all layers stand aside.
    driven: bool


class LoneRows(Wavefront):
    """A walk in which each layer gets the clean tokens as rows, each with a row of noise beside it.

    In a layer that mixes tokens through the attention function alone, the clean rows come out as
    the clean tokens did. A convolution or a recurrence over tokens would carry the noise over.
    Sums depend a little on how many tokens go together (a GPU chooses its kernels by that), so the
    layer also gets the text twice, as a batch, and what that changes is allowed besides.
    In each MoE layer every removal is made by running the layer again, and compared with the removed
    contribution. All of it while the layer's weights are there, so that they are needed once.
    """

    def __init__(self, plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> None:
        super().__init__(plan, ids, positions)
        # By decoder layer: how far each token's row is off, and what rounding explains, (positions,).
        self.errors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.scales: dict[int, float | None] = {}
        self.trouble: Exception | None = None  # with running a layer again; mixing is told first
        self.apart: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.driven = True
        self.before: torch.Tensor | None = None  # the output of the layer below, (1, tokens, ...)

    def check(self) -> Structure:
        """Raise RowsDoNotHold, naming the layer, if the first MoE layer or one above it mixes.

        Raises LaidOutOtherwise where the plan's layout is not that of this forward.
        """
        self.apart = called_aside(self.plan.model, self.ids)
        self.run_clean()
        self._require_alone()
        if self.trouble is not None:
            raise self.trouble
        driven = self.driven and len(self.apart) == len(self.errors)
        return Structure(self.plan.layout, self.scales, driven)

    def _require_alone(self) -> None:
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
            if i in self.errors:
                raise RowsDoNotHold(f"decoder layer {i} is called twice in one forward pass")
            self.busy = True
            whole = output[0] if isinstance(output, tuple) else output
            self._compare_calls(i, args, kwargs)
            self.before = whole
            clean_in = self.hidden(args, kwargs)[0, self.positions]  # (positions, ...)
            clean_out = whole[0, self.positions]
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
            if i in self.selected and self.trouble is None:
                try:
                    self.scales[i] = self._scale(*call, at, clean_in, alone)
                except ERRORS as error:
                    not_memory(error, f"measuring the residual stream of {self.plan.model.name}")
                    self.trouble = error
            state.clean.clear()
            self.busy = False

        return hook

    def _compare_calls(self, i: int, args: tuple, kwargs: dict) -> None:
        """Is the layer called as it is where all stand aside, and as the plan's layout says?"""
        real = shapes_of(i, args, kwargs, self.ids.shape[1])
        moving = self.plan.layout[i]
        if real.keys() != moving.keys() or any(
            real[path][d] != self.ids.shape[1] for path, dims in moving.items() for d in dims
        ):
            raise LaidOutOtherwise
        if len(self.apart) <= i:
            self.driven = False
            return
        if shapes_of(i, *self.apart[i], self.ids.shape[1]) != real:
            raise LaidOutOtherwise
        path = hidden_path(args, kwargs)
        hidden = (args, kwargs)[path[0]][path[1]]
        follows = self.before is None or torch.equal(hidden, self.before)
        self.driven &= follows and same_besides((args, kwargs), self.apart[i], path)

    def _scale(
        self,
        i: int,
        state: RowState,
        layer: Any,
        args: tuple,
        kwargs: dict,
        at: torch.Tensor,  # (positions, 1)
        before: torch.Tensor,  # (positions, ...)
        after: torch.Tensor,  # (positions, ...), of rows that nothing is removed from
    ) -> float | None:
        """How the routed output enters the layer's output, from every removal at every position."""
        moe: MoELayer = self.selected[i]
        routing = routing_at(moe, self.seen[i], self.positions, self.document)
        edits = self.plan.operator.edits(routing)

        def run_layer(rows: torch.Tensor) -> torch.Tensor:
            return self._through(i, state, layer, args, kwargs, rows[:, :, None], at)[:, :, 0]

        true = births_by_rerun(routing, edits, before, run_layer) - after[:, None]
        try:
            added = after[:, None] + routed_change(self.plan, moe, routing.hidden, edits)
            added = added - after[:, None]
            alpha = float((true * added).sum() / (added * added).sum().clamp_min(1e-30))
            left = float((true - alpha * added).abs().max())
        except RuntimeError as error:
            not_memory(error, f"measuring the residual stream of {self.plan.model.name}")
            return None  # the routed output is not shaped like the residual
        allowed = 1e-4 * float(true.abs().max()) + 1e-6 * float(after.abs().max())
        snapped = 1.0 if abs(alpha - 1) < 1e-4 else alpha
        return snapped if left <= allowed else None

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
