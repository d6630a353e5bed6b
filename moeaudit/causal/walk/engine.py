"""Which engine is exact for a model: the wavefront where its rows can follow, full forwards else.

Nothing is taken on trust. On a short text the wavefront is compared with full forwards, cell by
cell; a model that passes is replayed, one that fails runs on the slower path and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from moeaudit.models import Model, MoELayer
from moeaudit.models.anatomy import Kept
from moeaudit.models.forward import evaluating

from ..attention.registry import ATTENTION_TURN
from ..attention.reroute import RowsDoNotHold
from ..operators.routing import Operator
from .choice import Replay as Replay
from .choice import choose
from .copies import walk_document, walk_model, walk_position
from .plan import Walked, WalkPlan
from .several.sampled import walk_sample
from .several.together import walk_together
from .wavefront import walk_rows

# An edit of every token leaves nothing to replay, whatever the model.
WHOLE = "full forwards of the edited texts, exact"


@dataclass
class _Found:
    """The verdict about a model in one state, and the shortest text on which it did not hold."""

    state: tuple[object, ...]
    replay: Replay
    # Some models change their attention on longer texts (compressed, sparse keys).
    too_long: int | None = None
    why: str = ""
    # Lengths of texts in which rows ended elsewhere and no layer was at fault: one search serves later plans too.
    cleared: list[int] = field(default_factory=list)

    def for_text(self, tokens: int) -> Replay:
        if self.too_long is None or tokens < self.too_long:
            return self.replay
        return replace(self.replay, engine="full forwards", reason=self.why)


_ENGINES: Kept[_Found] = Kept()


def replay_for(model: Model, tokens: int | None = None) -> Replay:
    """The engine for `model`, found once and kept with it; for a text of `tokens` if that is given.

    Raises OutOfMemory where memory runs out while it is found; nothing is kept then.
    """
    found = _found(model)
    return found.replay if tokens is None else found.for_text(tokens)


def _found(model: Model) -> _Found:
    state = _fingerprint(model)
    found = _ENGINES.of(model.hf)
    if found is None or found.state != state:
        with evaluating(model.hf), ATTENTION_TURN:
            found = _ENGINES.keep(model.hf, _Found(state, choose(model)))
    return found


def _fingerprint(model: Model) -> tuple[object, ...]:
    """What a verdict depends on besides the weights: a change of it asks for a new one."""
    hooks = tuple(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())  # noqa: SLF001
    attention = getattr(model.hf.config, "_attn_implementation", None)
    return (model.experts_implementation, attention, model.dtype, str(model.device), hooks)


def plan_for(model: Model, layers: list[MoELayer], operator: Operator, **options: Any) -> WalkPlan:
    """What a walk over `layers` of `model` needs to know; `options` are fields of WalkPlan."""
    found = _found(model)
    how = (found.replay.layout, found.replay.residual_scale)
    known = {"driven": found.replay.driven, "cleared": found.cleared}
    return WalkPlan(model, layers, operator, *how, **known | options)


def walk_many(plan: WalkPlan, texts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[Walked]:
    """`walk` of several documents, each `(ids, positions)`: in one walk where the engine is the wavefront.

    The numbers are those of walks of their own. Where one of them cannot be followed by rows, each
    walks alone.
    """
    found = _found(plan.model)
    replays = [found.for_text(ids.shape[1]) for ids, _ in texts]
    if (
        len(texts) > 1
        and plan.driven
        and plan.operator.scope == "position"
        and all(replay.engine == "wavefront" for replay in replays)
    ):
        try:
            with evaluating(plan.model.hf), ATTENTION_TURN:
                walks = walk_together(plan, texts)
            return [replace(walk, engine=str(replay)) for walk, replay in zip(walks, replays)]
        except RowsDoNotHold:
            pass  # the walk of the document alone finds it again, and keeps it
    return [walk(plan, *text) for text in texts]


def walk(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """Effects at `positions` of the document `ids`, `"1 tokens"`, by the engine chosen.

    `engine` and `slower` of what is returned say which one computed it. A text that rows cannot follow goes to
    full forwards, and so do later ones at least as long; shorter ones do not.
    """
    model = plan.model
    whole = {"document": walk_document, "model": walk_model}.get(plan.operator.scope)
    if whole is not None:  # edits of a whole document are forwards of their own
        with evaluating(model.hf), ATTENTION_TURN:
            return replace(whole(plan, ids, positions), engine=WHOLE)
    found, tokens = _found(model), ids.shape[1]
    replay = found.for_text(tokens)
    with evaluating(model.hf), ATTENTION_TURN:
        if replay.engine == "wavefront":
            try:
                rows = walk_rows if plan.sample is None else walk_sample
                return replace(rows(plan, ids, positions), engine=str(replay))
            except RowsDoNotHold as surprise:
                found.too_long = min(tokens, found.too_long or tokens)
                found.why = f"on a text of {found.too_long} tokens {surprise}"
                replay = found.for_text(tokens)
        full = walk_position(plan, ids, positions)
        return replace(full, engine=str(replay), slower=True)
