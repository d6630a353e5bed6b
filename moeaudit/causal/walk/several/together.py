"""Several documents in one walk: each decoder layer's weights are used once, for all of them.

A model drives its layers for one text at a time. Where nothing but the layers stands between the first
hidden state and the last (measured), they can be called one by one instead: layer i for every document,
then layer i + 1. Each document keeps its own tensors and blocks, so its numbers are, bit for bit, those
of a walk of its own, whatever goes beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from moeaudit.models import Model
from moeaudit.models.forward import answering, listening
from moeaudit.models.precision import not_memory
from moeaudit.models.probe import probe_ids

from ...attention.reroute import RowsDoNotHold, RowState, active, rows_attend
from ..head import last_logits, layer_arguments
from ..layout import Layout, hidden_path, map_tensors
from ..plan import Walked, WalkPlan
from ..wavefront import Wavefront
from .sampled import SampledWavefront

_TOKENS = 11


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
        args, kwargs = _with_hidden(self.given[i], self.hidden)
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


def _with_hidden(
    given: tuple[tuple[Any, ...], dict[str, Any]], hidden: torch.Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    where, name = hidden_path(*given)
    args, kwargs = list(given[0]), dict(given[1])
    (args, kwargs)[where][name] = hidden
    return tuple(args), kwargs


@torch.no_grad()
def driven(model: Model, layout: Layout) -> bool:
    """Whether the layers, called one after the other, do what the model's forward does with them.

    On a short text: each layer gets what the one before returned, and besides it what it gets where
    all layers stand aside.
    """
    ids = probe_ids(model.hf, _TOKENS)
    seen: list[tuple[tuple[Any, ...], dict[str, Any], torch.Tensor]] = []

    def note(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:  # noqa: ARG001
        seen.append((args, kwargs, output[0] if isinstance(output, tuple) else output))

    try:
        with rows_attend(model.hf) as original, ExitStack() as stack:
            apart = layer_arguments(model, ids)
            stack.enter_context(active(RowState(_TOKENS, original=original, idle=True)))
            for layer in model.anatomy.decoder_layers:
                handle = layer.register_forward_hook(note, with_kwargs=True)
                stack.callback(handle.remove)
            model.hf(input_ids=ids, use_cache=False)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        not_memory(error, f"calling the layers of {model.name} one by one")
        return False
    if not len(seen) == len(apart) == len(layout):
        return False
    before: torch.Tensor | None = None
    for (args, kwargs, output), given in zip(seen, apart):
        try:
            path = hidden_path(args, kwargs)
            hidden = (args, kwargs)[path[0]][path[1]]
        except RowsDoNotHold:
            return False
        if before is not None and not torch.equal(hidden, before):
            return False
        if not _same((args, kwargs), given, path):
            return False
        before = output
    return True


def _same(real: Any, apart: Any, hidden: Any) -> bool:
    """Whether two calls have the same tensors at the same places, the hidden state left out."""
    sides: list[dict[Any, torch.Tensor]] = [{}, {}]
    for side, call in zip(sides, (real, apart)):
        map_tensors(side.__setitem__, call)
        side.pop(hidden, None)
    return sides[0].keys() == sides[1].keys() and all(
        x.shape == sides[1][path].shape and torch.equal(x, sides[1][path])
        for path, x in sides[0].items()
    )
