"""The replay: one walk up the layers in which every counterfactual is one more row.

Removing an expert at token t in layer l changes nothing before t and nothing below l, so the
counterfactual is the residual of one token from layer l upward, attending to the clean keys and
values of earlier tokens and to its own. The model's own forward drives the walk: after each
decoder layer has seen the clean tokens, the rows born below go through the same layer, and new
rows are born there. Each layer's weights are visited once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch

from moeaudit.models import MoELayer
from moeaudit.models.experts.many_rows import many_rows
from moeaudit.models.forward import ExpertsSeen, answering, listening

from ..attention.reroute import RowsDoNotHold, RowState, row_attention
from ..outcomes.compare import Outcomes
from .births import Birth, births_by_delta, births_by_rerun, routing_at
from .follow import followed, leaving, without
from .head import row_outcomes
from .layout import hidden_path, map_tensors
from .plan import Walked, WalkPlan, walked
from .several.parts import parts_of, side_by_side


def walk_rows(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """One walk over the document, or one for each part of the rows where they do not fit together."""
    steps = plan.steps(ids.shape[1], min(positions.tolist()))
    parts = parts_of(plan, steps) if len(positions) == 1 else [plan]
    return side_by_side([Wavefront(part, ids, positions).run() for part in parts])


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
        keep_clean: bool = False,
    ) -> None:
        self.plan = plan
        self.keep_clean = keep_clean
        self.clean: torch.Tensor | None = (
            None  # the clean logits, (tokens, vocab), where they are kept
        )
        self.ids = ids  # (1, tokens)
        self.positions = positions  # (positions,)
        # Asked of the device once a walk, never for a block of rows.
        self.places: list[int] = positions.tolist()
        self.document = plan.document(ids)
        tokens = ids.shape[1]
        steps = plan.steps(tokens, min(self.places))
        # Steps past the end of the text repeat its last place and are not counted.
        ahead = positions[:, None] + torch.arange(steps, device=positions.device)
        self.at = ahead.clamp(max=tokens - 1)  # (positions, steps)
        # All rows that will be, the first `born` of them set out: (positions, 1 + rows, steps, ...).
        self.held: torch.Tensor | None = None
        self.born = 0
        self.births: list[Birth] = []
        self.seen: dict[int, ExpertsSeen] = {}
        self.selected = {layer.index: layer for layer in plan.layers}
        self.tuple_tail: tuple[Any, ...] | None = None
        self.busy = False
        # How far the pass-through row of each position ends from the clean forward, nats.
        self.drift = torch.zeros(len(positions))
        self.passing: torch.Tensor | None = None  # places of the rows now in a layer, flat
        self.leaving: torch.Tensor | None = (
            None  # experts that they lose again there, flat; None for no row
        )
        self.followed = followed(plan)

    @torch.no_grad()
    def run(self) -> Walked:
        return self.finished(self.run_clean(then=self.outcomes))

    def finished(self, outcomes: Outcomes) -> Walked:
        """What the walk brings back."""
        answers = [(birth.routing, birth.edits) for birth in self.births]
        return walked(self.plan, self.positions, answers, outcomes, self.drift)

    @torch.no_grad()
    def run_clean(self, then: Callable[[torch.Tensor], Any] | None = None) -> Any:
        """One forward of the clean tokens with the walk's hooks in place; `then` gets its logits."""
        model = self.plan.model
        with (
            row_attention(model.hf, self.ids.shape[1], self.plan.budget.scores) as state,
            ExitStack() as stack,
        ):
            for i, layer in enumerate(model.anatomy.decoder_layers):
                hook = self.on_layer(i, state)
                stack.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
            stack.enter_context(listening(self.heard(), self.hear))
            if self.plan.frozen:
                for moe in model.anatomy.layers:
                    stack.enter_context(answering(moe, self.clean_answer(moe)))
            for moe in self.followed:
                stack.enter_context(answering(moe, self.lost_again))
            clean = model.hf(input_ids=self.ids, use_cache=False).logits[0]  # (tokens, vocab)
            self.busy = state.idle = True
            self.clean = clean if self.keep_clean else None
            return then(clean) if then is not None else None

    def largest_loss(self) -> float:
        """The largest loss of the clean tokens, nats; for walks that keep the clean logits."""
        assert self.clean is not None
        logp = self.clean[:-1].float().log_softmax(-1)
        return -float(logp.gather(-1, self.ids[0, 1:, None].to(logp.device)).min())

    def heard(self) -> list[MoELayer]:
        """The layers whose clean answers the walk needs."""
        return list(self.plan.model.anatomy.layers) if self.plan.frozen else self.plan.layers

    def hear(self, moe: MoELayer, given: ExpertsSeen) -> None:
        if not self.busy:
            self.seen[moe.index] = given

    def clean_answer(self, moe: MoELayer):
        def answer(*_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
            if not self.busy or self.passing is None:
                return None
            clean = self.seen[moe.index]
            return clean.index[self.passing], clean.weight[self.passing]

        return answer

    def lost_again(
        self,
        hidden: torch.Tensor,  # noqa: ARG002
        index: torch.Tensor,
        weight: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The answer of rows that lose their expert in this layer as well."""
        return None if self.leaving is None else without(index, weight, self.leaving)

    def gone(self, i: int) -> torch.Tensor | None:
        """The expert that each row loses again in decoder layer i, `"positions rows"`; None where none does."""
        if all(moe.index != i for moe in self.followed) or not self.births:
            return None
        lost = leaving(self.births, i, self.plan)
        return torch.cat([torch.full_like(lost[0][:, :1], -1), *lost], 1)

    def on_layer(self, i: int, state: RowState):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            if isinstance(output, tuple):
                self.tuple_tail = output[1:]
            if self.held is None and i in self.selected:  # the pass-through row sets out
                self._set_out(self.hidden(args, kwargs)[0, self.at])
            if self.held is not None:
                before = self.held[:, 0].clone()  # (positions, steps, ...)
                rows = self.held[:, : self.born]
                call = (i, state, layer, args, kwargs)
                self._through(*call, rows, self.at, into=rows, gone=self.gone(i))
                if i in self.selected:
                    self._give_birth(i, state, layer, args, kwargs, before)
            state.clean.clear()
            self.busy = False

        return hook

    def _set_out(self, first: torch.Tensor) -> None:
        """Room for all rows, the pass-through row in its place; `first` is `"positions steps ..."`."""
        p, *rest = first.shape
        self.held = first.new_empty(p, 1 + self.plan.rows, *rest)
        self.held[:, 0] = first
        self.born = 1

    def _give_birth(
        self, i: int, state: RowState, layer: Any, args: tuple, kwargs: dict, before: torch.Tensor
    ) -> None:
        """New rows part from the pass-through row, so that they share its rounding so far."""
        assert self.held is not None
        after = self.held[:, 0]  # (positions, steps, ...)
        scale, at = self.plan.residual_scale[i], self.positions
        routing = routing_at(self.selected[i], self.seen[i], at, self.document)
        edits = self.plan.operator.edits(routing)
        if scale is not None:
            hidden = births_by_delta(self.plan, routing, edits, after[:, 0], scale)
        else:

            def run_layer(rows: torch.Tensor) -> torch.Tensor:
                one = rows[:, :, None]
                return self._through(i, state, layer, args, kwargs, one, at[:, None])[:, :, 0]

            hidden = births_by_rerun(routing, edits, before[:, 0], run_layer)
        new = slice(self.born, self.born + hidden.shape[1])
        self.held[:, new, 0] = hidden
        self.held[:, new, 1:] = after[:, None, 1:]  # the tokens after the edit are still clean here
        self.born = new.stop
        self.births.append(Birth(routing, edits))

    def hidden(self, args: tuple, kwargs: dict) -> torch.Tensor:
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
        into: torch.Tensor | None = None,
        places: list[int] | None = None,  # `at[:, 0]` as numbers; None: the walk's own
        gone: torch.Tensor | None = None,  # (positions, rows), experts lost again; -1 for none
    ) -> torch.Tensor:
        """Carry rows through decoder layer i, some at a time; `into` may be the rows themselves."""
        n, steps = rows.shape[1:3]
        out = torch.empty_like(rows) if into is None else into
        dims, at_hidden = self.plan.layout[i], hidden_path(args, kwargs)
        moe = next((each for each in self.plan.model.anatomy.layers if each.index == i), None)
        most = max(1, self.plan.budget.rows_through(self.plan.model, moe) // steps)
        for part, some in _blocks(len(at), n, most):
            here, count = at[part], len(range(*some.indices(n)))
            flat = here[:, None].expand(-1, count, -1).flatten()  # (positions * rows * steps,)
            chunk = rows[part, some].flatten(0, 2)[None]

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
            state.at, state.rows, self.passing = here, count, flat
            if gone is not None:  # the edited token alone; those carried along keep the expert
                lost = gone[part, some, None].expand(-1, -1, steps).clone()
                lost[..., 1:] = -1
                self.leaving = lost.flatten()
            state.edited = (self.places if places is None else places)[part]
            try:
                # As called, so that other hooks see rows too.
                with many_rows(moe):
                    result = layer(*row_args, **row_kwargs)
            finally:
                state.at = self.passing = self.leaving = None
            result = result[0] if isinstance(result, tuple) else result
            out[part, some] = result[0].reshape(len(here), count, *rows.shape[2:])
        return out

    def outcomes(self, clean: torch.Tensor) -> Outcomes:
        """Effects of each row against the pass-through row of its position."""
        assert self.held is not None
        empty = torch.cat([birth.edits.empty for birth in self.births], 1)  # (positions, rows)
        found, self.drift = row_outcomes(
            self.plan, clean, self.held, empty, self.ids, self.positions, self.tuple_tail
        )
        return found


def _blocks(positions: int, rows: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most `most` rows, of like size: whole positions, or parts of one where not even one fits."""
    if rows <= most:
        step = max(1, most // max(1, rows))
        step = -(-positions // max(1, -(-positions // step)))
        yield from ((slice(a, a + step), slice(0, rows)) for a in range(0, positions, max(1, step)))
        return
    for a in range(positions):
        yield from ((slice(a, a + 1), slice(b, b + most)) for b in range(0, rows, most))
