"""Which engine is exact for a model: the wavefront where its rows can follow, full forwards else.

Nothing is taken on trust. On a short text the wavefront is compared with full forwards, cell by
cell; a model that passes is replayed, one that fails runs on the slower path and says why.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from moeaudit.models import Model, MoELayer
from moeaudit.models.find import find_anatomy
from moeaudit.models.modes import evaluating
from moeaudit.models.probe import probe_ids

from ..attention.reroute import RowsDoNotHold
from ..operators.routing import Operator
from ..operators.weights import Zero
from .copies import walk_document, walk_model, walk_position
from .layout import Layout, layer_layout
from .lone_rows import LoneRows
from .plan import Walked, WalkPlan
from .wavefront import Wavefront, walk_rows

_TOKENS = 13
_COPY_PARAMETERS = 500_000_000
_ONE_AT_A_TIME = threading.RLock()
# What rounding explains between the two engines: a floor in nats, and a share of the largest effect
# (a model with loud weights amplifies rounding; a row that cannot follow is off by its whole effect).
_ROUNDING = {
    torch.float64: (1e-9, 1e-7),
    torch.float32: (1e-6, 1e-4),
    torch.float16: (2e-2, 5e-2),
    torch.bfloat16: (1e-1, 1e-1),
}


@dataclass(frozen=True)
class Replay:
    """The engine chosen for a model, and the evidence.

    `largest_difference` is in nats, between wavefront and full forwards on a short text; None
    where the wavefront could not run at all. `reason` is None for the wavefront.
    """

    engine: Literal["wavefront", "full forwards"]
    reason: str | None
    largest_difference: float | None
    layout: Layout
    residual_scale: dict[int, float | None]

    def __str__(self) -> str:
        if self.engine == "wavefront":
            checked = (
                f"{self.largest_difference:.1e} nats against full forwards on {_TOKENS} tokens"
            )
            return f"wavefront replay (checked to {checked})"
        return f"batched full forwards, exact and slower, because {self.reason}"


def replay_for(model: Model) -> Replay:
    """The engine for `model`, found once and kept with it."""
    state = _fingerprint(model)
    known = model.findings.get("replay")
    if known is None or known[0] != state:
        with _ONE_AT_A_TIME, evaluating(model.hf):
            model.findings["replay"] = known = (state, _choose_in_full_precision(model))
    return known[1]


def _fingerprint(model: Model) -> tuple[object, ...]:
    """What a verdict depends on besides the weights: a change of it asks for a new one."""
    layers = model.anatomy.decoder_layers
    hooks = tuple(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in layers)  # noqa: SLF001
    attention = getattr(model.hf.config, "_attn_implementation", None)
    return (model.experts_implementation, attention, model.dtype, str(model.device), hooks)


def plan_for(
    model: Model, layers: list[MoELayer], intervention: Operator, **options: Any
) -> WalkPlan:
    """What a walk over `layers` of `model` needs to know; `options` are fields of WalkPlan."""
    replay = replay_for(model)
    return WalkPlan(model, layers, intervention, replay.layout, replay.residual_scale, **options)


def walk(plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor) -> Walked:
    """Effects at `positions` of the document `ids`, `"1 tokens"`, by the engine chosen."""
    model = plan.model
    whole = {"document": walk_document, "model": walk_model}.get(plan.intervention.scope)
    if whole is not None:  # edits of a whole document are forwards of their own
        with _ONE_AT_A_TIME, evaluating(model.hf):
            return whole(plan, ids, positions)
    replay = replay_for(model)
    # Attention is rerouted through registries of the process, so walks take turns.
    with _ONE_AT_A_TIME, evaluating(model.hf):
        if replay.engine == "wavefront":
            try:
                return walk_rows(plan, ids, positions)
            except RowsDoNotHold as surprise:
                # Some models change their attention only on longer texts (compressed, sparse keys).
                reason = f"on a text of {ids.shape[1]} tokens {surprise}"
                slower = replace(replay, engine="full forwards", reason=reason)
                model.findings["replay"] = (_fingerprint(model), slower)
        return walk_position(plan, ids, positions)


def _choose_in_full_precision(model: Model) -> Replay:
    """Choose on a float32 copy where there is room for one: half precision hides what mixes tokens."""
    half = model.dtype in (torch.float16, torch.bfloat16)
    if not half or model.hf.num_parameters() > _COPY_PARAMETERS:
        return _choose(model)
    copied = copy.deepcopy(model.hf).float()
    exact = _choose(Model(model.name, copied, None, find_anatomy(copied), {}))
    return exact if exact.engine == "full forwards" else _choose(model)


@torch.no_grad()
def _choose(model: Model) -> Replay:
    everything = list(model.anatomy.layers)
    ids = probe_ids(model.hf, _TOKENS)
    positions = torch.arange(_TOKENS - 1, device=ids.device)
    unknown: dict[int, float | None] = dict.fromkeys(model.anatomy.indices)
    try:
        layout = layer_layout(model)
        LoneRows(WalkPlan(model, everything, Zero(), layout, unknown), ids, positions).check()
        scale = _residual_scale(
            WalkPlan(model, everything, Zero(), layout, unknown), ids, positions
        )
        plan = WalkPlan(model, everything, Zero(), layout, scale)
        rows = Wavefront(plan, ids, positions).run()
    except RowsDoNotHold as refusal:
        return Replay("full forwards", str(refusal), None, [], unknown)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        # A layer that cannot even be called with rows; the message is kept for the user.
        first = (str(error).splitlines() or [type(error).__name__])[0]
        reason = f"its decoder layers do not take lone rows ({type(error).__name__}: {first})"
        return Replay("full forwards", reason, None, [], unknown)
    full = walk_position(plan, ids, positions)
    difference = max(
        float((rows.outcomes.delta_nll - full.outcomes.delta_nll).abs().max()),
        float((rows.outcomes.kl - full.outcomes.kl).abs().max()),
    )
    largest = float(full.outcomes.delta_nll.abs().max())
    floor, share = _ROUNDING.get(model.dtype, _ROUNDING[torch.float32])
    allowed = floor + share * largest
    if not difference <= allowed:
        reason = (
            "rows and full forwards disagree on a short text (by "
            f"{difference:.1e} nats): it mixes tokens, or carries state between layers, outside of attention"
        )
        return Replay("full forwards", reason, difference, layout, scale)
    return Replay("wavefront", None, difference, layout, scale)


def _residual_scale(
    plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor
) -> dict[int, float | None]:
    """How the routed output enters each layer's output, measured on a short text.

    1 for a plain residual, Granite's multiplier for Granite; None where a removal does not come
    out as a multiple of the removed contribution, or where half precision blurs the answer.
    """
    if plan.model.dtype not in (torch.float32, torch.float64):
        return dict(plan.residual_scale)
    rerun = Wavefront(plan, ids, positions, keep_births=True)
    rerun.run()
    ones = replace(plan, residual_scale=dict.fromkeys(plan.residual_scale, 1.0))
    zeros = replace(plan, residual_scale=dict.fromkeys(plan.residual_scale, 0.0))
    walks = [Wavefront(p, ids, positions, keep_births=True) for p in (ones, zeros)]
    try:
        for each in walks:
            each.run()
    except RuntimeError:
        return dict(plan.residual_scale)  # the routed output is not shaped like the residual
    scales: dict[int, float | None] = {}
    for moved, one, still in zip(rerun.births, walks[0].births, walks[1].births):
        true, added = moved.hidden - still.hidden, one.hidden - still.hidden
        alpha = float((true * added).sum() / (added * added).sum().clamp_min(1e-30))
        left = float((true - alpha * added).abs().max())
        allowed = 1e-4 * float(true.abs().max()) + 1e-6 * float(still.hidden.abs().max())
        snapped = 1.0 if abs(alpha - 1) < 1e-4 else alpha
        scales[moved.layer] = snapped if left <= allowed else None
    return scales
