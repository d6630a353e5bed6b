"""Several documents in one walk: each decoder layer's weights are used once, for all of them.

A model drives its layers for one text at a time. Where nothing but the layers stands between the first
hidden state and the last (measured by `checks/structure`), they can be called one by one instead: layer i for
every document, then layer i + 1. Each document keeps its own tensors and blocks, so its numbers are, bit for
bit, those of a walk of its own, whatever goes beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from moeaudit.models.forward import answering, listening
from moeaudit.models.placement.driven import with_hidden

from ...attention.reroute import RowState, active, rows_attend
from ..head import last_logits, layer_arguments
from ..plan import Walked, WalkPlan
from ..wavefront import Wavefront
from .sampled import SampledWavefront


@torch.no_grad()
def walk_together(
    plan: WalkPlan, texts: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[Walked]:
    """One walk over several documents, each `(ids "1 tokens", positions)`; what `walk_rows` gives for each."""
    model = plan.model
    kind = Wavefront if plan.sample is None else SampledWavefront
    walks = [kind(plan, ids, positions) for ids, positions in texts]
    with rows_attend(model.hf) as original, ExitStack() as stack:
        turns = [
            _Turn(walk, RowState(walk.ids.shape[1], plan.budget.scores, original=original))
            for walk in walks
        ]
        now: list[Wavefront] = []
        heard = walks[0].heard()
        stack.enter_context(listening(heard, lambda moe, given: now[-1].hear(moe, given)))
        if plan.frozen:
            for moe in model.anatomy.layers:
                answer = lambda *given, moe=moe: now[-1].clean_answer(moe)(*given)  # noqa: E731
                stack.enter_context(answering(moe, answer))
        for moe in walks[0].followed:
            stack.enter_context(answering(moe, lambda *given: now[-1].lost_again(*given)))
        for i in range(model.anatomy.n_layers):
            for turn in turns:
                now[:] = [turn.walk]
                turn.layer(i)
        found = []
        while turns:  # the rows of a document are let go when it is measured
            turn = turns.pop(0)
            now[:] = [turn.walk]
            found.append(turn.measured())
        return found


class _Turn:
    """One document of a walk: what its layers are called with, and how far it has come."""

    def __init__(self, walk: Wavefront, state: RowState) -> None:
        self.walk, self.state = walk, state
        self.given = layer_arguments(walk.plan.model, walk.ids)
        self.hidden = walk.hidden(*self.given[0])

    def layer(self, i: int) -> None:
        """The clean tokens through decoder layer i, then the rows."""
        layer = self.walk.plan.model.anatomy.decoder_layers[i]
        args, kwargs = with_hidden(self.given[i], self.hidden)
        with active(self.state):
            output = layer(*args, **kwargs)
            self.walk.on_layer(i, self.state)(layer, args, kwargs, output)
        self.hidden = output[0] if isinstance(output, tuple) else output

    def measured(self) -> Walked:
        """From the last layer to outcomes."""
        walk = self.walk
        with active(self.state):
            walk.busy = self.state.idle = True
            logits = last_logits(walk.plan.model, self.hidden, walk.ids, walk.tuple_tail)[0]
            return walk.finished(walk.outcomes(logits))
