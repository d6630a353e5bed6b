"""Where does a row that nothing is removed from leave the clean token's way? Asked when it ends elsewhere."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from moeaudit.models.forward import ExpertsSeen, evaluating, experts_as
from moeaudit.models.precision import is_half, rounding
from moeaudit.models.precision.widened import in_float32

from ...attention.registry import ATTENTION_TURN
from ...attention.reroute import RowState
from ..head import tail_logits
from ..plan import WalkPlan
from ..wavefront import Wavefront

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeaudit.models import MoELayer

MOST = 16  # positions looked at, those with the largest drift


def departure(
    plan: WalkPlan, ids: torch.Tensor, positions: Sequence[int]
) -> tuple[int, int | None] | None:
    """The position and decoder layer at which a row, given what the clean token got, comes out otherwise.

    Layer None is what comes after the last one. None altogether where each layer alone does with the row what it
    did with the token: then small differences have added up, or two experts tied. Looked at in float32, where a
    difference beyond rounding is none of half precision, with one row at a time, so that no row stands
    where something waits for another token.
    """
    model = plan.model
    everything = replace(plan, layers=list(model.anatomy.layers), frozen=False)
    with evaluating(model.hf), ATTENTION_TURN, ExitStack() as stack:
        if is_half(model.dtype):
            stack.enter_context(in_float32(model))
            if model.experts_implementation == "grouped_mm":
                # Of float32 it asks a card for one product an expert; the loop, for active ones alone.
                stack.enter_context(experts_as(model.hf, "eager"))
        return _OneByOne(everything, ids, positions).found()


class _OneByOne(Wavefront):
    """Each decoder layer, and what follows, gets one clean token at a time as a row."""

    def __init__(self, plan: WalkPlan, ids: torch.Tensor, positions: Sequence[int]) -> None:
        super().__init__(plan, ids, torch.as_tensor(sorted(positions), device=ids.device))
        self.all_places = list(self.places)
        self.row_answer: ExpertsSeen | None = None
        self.left: tuple[int, int | None] | None = None
        self.last: torch.Tensor | None = None  # the last layer's output, (tokens, ...)

    def found(self) -> tuple[int, int | None] | None:
        clean = self.run_clean(then=lambda logits: logits)
        if self.left is None:
            self._after_the_layers(clean)
        return self.left

    def hear(self, moe: MoELayer, given: ExpertsSeen) -> None:
        super().hear(moe, given)
        if self.busy:
            self.row_answer = given

    def on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            if isinstance(output, tuple):
                self.tuple_tail = output[1:]
            before = self.hidden(args, kwargs)[0]
            self.last = after = (output[0] if isinstance(output, tuple) else output)[0]
            share, floor = rounding(after).row
            done = float((after - before).float().abs().max())
            # A run is stopped by it, so four times what the choice of an engine allows.
            allowed = 4 * max(share * done + floor * float(after.float().abs().max()), 1e-30)
            for position in self.all_places if self.left is None else []:
                self.places, self.row_answer = [position], None
                at = self.ids.new_tensor([[position]])
                row = before[position][None, None, None]
                alone = self._through(i, state, layer, args, kwargs, row, at)[0, 0, 0]
                off = float((alone - after[position]).float().abs().max())
                if not off <= allowed and not self._tied(i, position):
                    self.left = position, i
                    break
            self.places = self.all_places
            state.clean.clear()
            self.busy = False

        return hook

    def _tied(self, i: int, position: int) -> bool:
        """Whether the row went to another expert than its token, one that weighs the same to rounding."""
        clean, row = self.seen.get(i), self.row_answer
        if clean is None or row is None or len(row.index) != 1:
            return False
        before, now = clean.index[position].sort().values, row.index[0].sort().values
        if before.shape != now.shape or torch.equal(before, now):
            return False
        weighed, weighs = clean.weight[position].sort().values, row.weight[0].sort().values
        allowed = rounding(weighed).answer * float(weighed.abs().max())
        return float((weighed - weighs).abs().max()) <= allowed

    def _after_the_layers(self, clean: torch.Tensor) -> None:
        """Final norm and head."""
        assert self.last is not None
        allowed = rounding(clean).verified
        for position in self.all_places:
            row = self.last[position][None]
            logits = tail_logits(self.plan.model, row, self.ids[0, 0], self.tuple_tail)[0]
            both = torch.stack([logits, clean[position]]).float().log_softmax(-1)
            if not float((both[0] - both[1]).abs().max()) <= allowed * (
                1 + float(both[1].abs().max())
            ):
                self.left = position, None
                return
