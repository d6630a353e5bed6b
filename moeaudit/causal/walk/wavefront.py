"""The replay: one walk up the layers in which every counterfactual is one more row.

Removing an expert at token t in layer l changes nothing before t and nothing below l, so the
counterfactual is the residual of one token from layer l upward, attending to the clean keys and
values of earlier tokens and to its own. The model's own forward drives the walk: after each
decoder layer has seen the clean tokens, the rows born below go through the same layer, and new
rows are born there. Each layer's weights are visited once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import ExpertsSeen

from ..attention.reroute import RowsDoNotHold, RowState, row_attention
from ..outcomes.compare import Outcomes, drift, measure_steps
from .births import Birth, births_by_delta, births_by_rerun
from .head import tail_logits
from .layout import hidden_path, map_tensors
from .plan import Walked, WalkPlan, walked

_LAYER_ROWS = 2048  # rows that go through a layer at once
_GATHER_BYTES = 1 << 28  # expert weights that batched_mm may copy at once
_LOGITS = 1 << 23  # logits of rows held at once


class Wavefront:
    """One walk over one document for some of its positions.

    Rows are `(positions, rows, steps, ...)`: step 0 is the edited token, further steps are the
    tokens after it that a horizon carries along. Row 0 of each position is a pass-through.
    """

    def __init__(
        self,
        plan: WalkPlan,
        ids: torch.Tensor,
        positions: torch.Tensor,
        *,
        keep_births: bool = False,
    ) -> None:
        self.plan = plan
        self.keep_births = keep_births
        self.ids = ids  # (1, tokens)
        self.positions = positions  # (positions,)
        tokens = ids.shape[1]
        steps = plan.steps(tokens, int(positions.min()))
        # Steps past the end of the text repeat its last place and are not counted.
        ahead = positions[:, None] + torch.arange(steps, device=positions.device)
        self.at = ahead.clamp(max=tokens - 1)  # (positions, steps)
        self.rows: torch.Tensor | None = None
        self.births: list[Birth] = []
        self.seen: dict[int, ExpertsSeen] = {}
        self.selected = {layer.index: layer for layer in plan.layers}
        self.tuple_tail: tuple[Any, ...] | None = None
        self.busy = False
        self.drift = 0.0  # how far pass-through rows end from the clean forward, nats
        self.passing: torch.Tensor | None = None  # places of the rows now in a layer, flat

    @torch.no_grad()
    def run(self) -> Walked:
        outcomes = self.run_clean(then=self._outcomes)
        answers = [(birth.routing, birth.edits) for birth in self.births]
        return walked(self.plan, self.positions, answers, outcomes, self.drift)

    @torch.no_grad()
    def run_clean(self, then: Callable[[torch.Tensor], Any] | None = None) -> Any:
        """One forward of the clean tokens with the walk's hooks in place; `then` gets its logits."""
        model = self.plan.model
        with row_attention(model.hf, self.ids.shape[1]) as state, ExitStack() as stack:
            for i, layer in enumerate(model.anatomy.decoder_layers):
                hook = self._on_layer(i, state)
                stack.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
            for moe in model.anatomy.layers if self.plan.frozen else self.plan.layers:
                hook = self._on_experts(moe)
                handle = moe.experts.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            clean = model.hf(input_ids=self.ids, use_cache=False).logits[0]  # (tokens, vocab)
            self.busy = state.idle = True
            return then(clean) if then is not None else None

    def _on_experts(self, moe: MoELayer):
        def hook(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:  # noqa: ARG001
            given = [*args, *kwargs.values()][:3]
            if not self.busy:
                self.seen[moe.index] = ExpertsSeen(*given)
            elif self.plan.frozen and self.passing is not None:
                clean = self.seen[moe.index]
                return (given[0], clean.index[self.passing], clean.weight[self.passing]), {}
            return None

        return hook

    def _on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            if isinstance(output, tuple):
                self.tuple_tail = output[1:]
            if self.rows is None and i in self.selected:  # the pass-through row sets out
                self.rows = self._hidden(args, kwargs)[0, self.at][:, None]
            if self.rows is not None:
                before = self.rows[:, 0]  # (positions, steps, ...)
                self.rows = self._through(i, state, layer, args, kwargs, self.rows, self.at)
                if i in self.selected:
                    self._give_birth(i, state, layer, args, kwargs, before)
            state.clean.clear()
            self.busy = False

        return hook

    def _give_birth(
        self, i: int, state: RowState, layer: Any, args: tuple, kwargs: dict, before: torch.Tensor
    ) -> None:
        """New rows part from the pass-through row, so that they share its rounding so far."""
        assert self.rows is not None
        seen, after = self.seen[i], self.rows[:, 0]  # (positions, steps, ...)
        scale = self.plan.residual_scale[i]
        moe, at, intervention = self.selected[i], self.positions, self.plan.intervention
        if scale is not None:
            birth = births_by_delta(moe, intervention, seen, at, after[:, 0], scale)
        else:

            def run_layer(rows: torch.Tensor) -> torch.Tensor:
                one = self._through(i, state, layer, args, kwargs, rows[:, :, None], at[:, None])
                return one.squeeze(2)

            birth = births_by_rerun(moe, intervention, seen, at, before[:, 0], run_layer)
        born = birth.hidden[:, :, None]  # (positions, rows, 1, ...)
        if self.at.shape[1] > 1:  # the tokens after the edit are still clean here
            later = after[:, None, 1:].expand(-1, born.shape[1], *[-1] * (after.dim() - 1))
            born = torch.cat([born, later], 2)
        self.rows = torch.cat([self.rows, born], 1)
        if not self.keep_births:
            birth.hidden = birth.hidden[:0]  # the rows hold it now
        self.births.append(birth)

    def _hidden(self, args: tuple, kwargs: dict) -> torch.Tensor:
        where, name = hidden_path(args, kwargs)
        return (args, kwargs)[where][name]

    def _through(
        self,
        i: int,
        state: RowState,
        layer: Any,
        args: tuple,
        kwargs: dict,
        rows: torch.Tensor,  # (positions, rows, steps, ...)
        at: torch.Tensor,  # (positions, steps)
    ) -> torch.Tensor:
        """Carry rows through decoder layer i, some positions at a time."""
        n, steps = rows.shape[1:3]
        step = max(1, self._rows_at_once(i) // (n * steps))
        dims, at_hidden = self.plan.layout[i], hidden_path(args, kwargs)
        out = torch.empty_like(rows)
        for a in range(0, len(at), step):
            here = at[a : a + step]
            flat = here[:, None].expand(-1, n, -1).flatten()  # (positions * rows * steps,)
            chunk = rows[a : a + step].flatten(0, 2)[None]

            def place(path: Any, tensor: torch.Tensor) -> torch.Tensor:
                if path == at_hidden:
                    return chunk  # noqa: B023
                if path not in dims:
                    raise RowsDoNotHold(
                        f"decoder layer {i} got an argument {path[-1]!r} it did not get before"
                    )
                moving = dims[path]
                return tensor.index_select(moving[0], flat) if len(moving) == 1 else tensor  # noqa: B023

            row_args, row_kwargs = map_tensors(place, (args, kwargs))
            state.at, state.rows, self.passing = here, n, flat
            try:
                result = layer(
                    *row_args, **row_kwargs
                )  # as called, so that other hooks see rows too
            finally:
                state.at = self.passing = None
            result = result[0] if isinstance(result, tuple) else result
            out[a : a + step] = result[0].reshape(len(here), *rows.shape[1:])
        return out

    def _rows_at_once(self, i: int) -> int:
        model = self.plan.model
        moe = next((layer for layer in model.anatomy.layers if layer.index == i), None)
        return _LAYER_ROWS if moe is None else rows_at_once(model, moe)

    def _outcomes(self, clean: torch.Tensor) -> Outcomes:
        """Effects of each row against the pass-through row of its position."""
        assert self.rows is not None
        (n, steps), vocab = self.rows.shape[1:3], clean.shape[-1]
        empty = torch.cat([birth.edits.empty for birth in self.births], 1)  # (positions, rows)
        step = max(1, _LOGITS // (vocab * n * steps))
        parts = []
        for a in range(0, len(self.positions), step):
            part = slice(a, a + step)
            block = self.rows[part].flatten(0, 2)  # (positions * rows * steps, ...)
            logits = tail_logits(self.plan.model, block, self.ids[0, 0], self.tuple_tail)
            logits = logits.view(-1, n, steps, vocab)
            alone, edited, at = logits[:, 0], logits[:, 1:], self.positions[part]
            self.drift = max(self.drift, drift(clean[at], alone[:, 0], self.ids[0, at + 1]))
            if bool(empty[part].any()):  # an edit of nothing is the pass-through row itself
                edited = torch.where(empty[part][..., None, None], alone[:, None], edited)
            parts.append(measure_steps(alone, edited, self.ids[0], at, *self.plan.measured))
        return Outcomes.joined(parts, 0)


def rows_at_once(model: Model, moe: MoELayer) -> int:
    """How many rows go through a MoE layer together."""
    if model.experts_implementation != "batched_mm":
        return _LAYER_ROWS
    # batched_mm copies the weights of every (row, slot), so few rows go at once.
    size = sum(p.numel() * p.element_size() for p in moe.experts.parameters()) // moe.num_experts
    return max(8, min(_LAYER_ROWS, _GATHER_BYTES // max(1, size * moe.top_k)))
