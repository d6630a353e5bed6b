"""Can rows stand for full forwards in this model? Measured on a short text, cell by cell."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import ExpertsSeen, clean_pass
from moeaudit.models.precision import is_half, not_memory, rounding
from moeaudit.models.probe import probe_ids

from ..attention.reroute import RowsDoNotHold
from ..operators.weights import Zero
from ..outcomes.compare import Outcomes, compare
from .forwards import Answer, Edit, run
from .full_precision import in_float32
from .layout import Layout, layer_layout
from .lone_rows import LoneRows
from .plan import Walked, WalkPlan
from .several.together import driven
from .wavefront import Wavefront

TOKENS = 13
CELLS = 64  # how many effects are computed by full forwards too, spread over layers and ranks
_SEED = 0
_LOG = logging.getLogger("moeaudit")
_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)


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
    # Whether layers called one after the other are the model (`several.together`).
    driven: bool = False

    def __str__(self) -> str:
        if self.engine == "wavefront":
            checked = f"{self.largest_difference:.1e} nats against full forwards on {TOKENS} tokens"
            return f"wavefront replay (checked to {checked})"
        return f"batched full forwards, exact and slower, because {self.reason}"


def choose(model: Model) -> Replay:
    """The engine for `model`; a half-precision model must pass in float32 first.

    Raises OutOfMemory, of which no verdict is made.
    """
    _LOG.info("%s: comparing rows with full forwards on %d tokens", model.name, TOKENS)
    replay = _in_float32(model) if is_half(model.dtype) else None
    if replay is None or replay.engine == "wavefront":
        # How the routed output enters is seen in float32, and holds in half precision as well.
        replay = _choose(model, None if replay is None else replay.residual_scale)
    _LOG.info("%s: %s", model.name, replay)
    return replay


def _in_float32(model: Model) -> Replay:
    """The verdict in float32; against rows where it could not be reached."""
    try:
        with in_float32(model):
            return _choose(model)
    except _ERRORS as error:
        not_memory(error, f"checking {model.name} in float32")
        reason = (
            f"it could not be checked in float32 ({_first(error)}), and half precision hides mixing"
        )
        return Replay("full forwards", reason, None, [], dict.fromkeys(model.anatomy.indices))


@torch.no_grad()
def _choose(model: Model, scale: dict[int, float | None] | None = None) -> Replay:
    """The engine, by structure and by numbers; with `scale`, which float32 gave, by numbers alone.

    What mixes tokens was then looked for in float32, where it shows. Half precision would not tell
    it from two experts that tie in its few digits.
    """
    everything = list(model.anatomy.layers)
    ids = probe_ids(model.hf, TOKENS)
    positions = torch.arange(TOKENS - 1, device=ids.device)
    unknown: dict[int, float | None] = dict.fromkeys(model.anatomy.indices)
    try:
        layout = layer_layout(model)
        plan = WalkPlan(model, everything, Zero(), layout, unknown)
        if scale is None:
            LoneRows(plan, ids, positions).check()
        measured = _residual_scale(plan, ids, positions) if scale is None else scale
        plan = replace(plan, residual_scale=measured)
        rows = Wavefront(plan, ids, positions).run()
    except RowsDoNotHold as refusal:
        return Replay("full forwards", str(refusal), None, [], unknown)
    except _ERRORS as error:
        # A layer that cannot even be called with rows; the message is kept for the user.
        not_memory(error, f"trying rows in {model.name}")
        reason = f"its decoder layers do not take lone rows ({_first(error)})"
        return Replay("full forwards", reason, None, [], unknown)
    difference, largest = _compared(model, ids, rows)
    floor, share = rounding(model).effect
    holds = difference <= floor + share * largest
    if not holds:
        # The same forward among other copies differs by rounding too, by more on a GPU. Where two experts
        # tie in half precision's few digits it even goes to another one; structure was seen in float32
        # then, so the typical cell decides.
        off, noise = _compared(model, ids, rows, True)
        share = 0.0 if is_half(model.dtype) else share
        holds = off <= floor + share * largest + 4 * noise
    if not holds:
        # A model in half precision gets here only after its rows held in float32.
        why = (
            f"more than rounding of {str(model.dtype).removeprefix('torch.')} explains, though they agree in float32"
            if is_half(model.dtype)
            else "it mixes tokens, or carries state between layers, outside of attention"
        )
        reason = (
            f"rows and full forwards disagree on a short text (by {difference:.1e} nats): {why}"
        )
        return Replay("full forwards", reason, difference, layout, plan.residual_scale)
    apart = driven(model, layout)
    return Replay("wavefront", None, difference, layout, plan.residual_scale, apart)


def _residual_scale(
    plan: WalkPlan, ids: torch.Tensor, positions: torch.Tensor
) -> dict[int, float | None]:
    """How the routed output enters each layer's output, measured on a short text, in float32.

    1 for a plain residual, Granite's multiplier for Granite; None where a removal does not come
    out as a multiple of the removed contribution.
    """
    rerun = Wavefront(plan, ids, positions, keep_births=True)
    rerun.run()
    ones = replace(plan, residual_scale=dict.fromkeys(plan.residual_scale, 1.0))
    zeros = replace(plan, residual_scale=dict.fromkeys(plan.residual_scale, 0.0))
    walks = [Wavefront(p, ids, positions, keep_births=True) for p in (ones, zeros)]
    try:
        for each in walks:
            each.run()
    except RuntimeError as error:
        not_memory(error, f"measuring the residual stream of {plan.model.name}")
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


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


@dataclass(frozen=True)
class _Cell:
    layer: MoELayer
    position: int
    rank: int


def _compared(
    model: Model, ids: torch.Tensor, rows: Walked, again: bool = False
) -> tuple[float, float]:
    """Largest difference between rows and full forwards in sampled cells, and the largest effect, nats.

    With `again` the second is what full forwards of the same cells differ by among themselves when
    they run in batches of another size; both are medians over the cells then in half precision.
    """
    cells = _sampled(model, len(rows.positions))
    _, seen = clean_pass(model, [cell.layer for cell in cells], ids)
    copies = [{}, *(_removed(cell, seen[cell.layer.index]) for cell in cells)]
    full = _full(model, ids, cells, copies)
    at = torch.tensor([cell.position for cell in cells], device=full.kl.device)
    column = torch.tensor(
        [int((rows.layer == cell.layer.index).nonzero()[0]) + cell.rank for cell in cells],
        device=at.device,
    )
    mine = [x[at, column] for x in (rows.outcomes.delta_nll, rows.outcomes.kl)]
    theirs = [x[:, 0] for x in (full.delta_nll, full.kl)]
    if again:
        few = 1 + len(cells) // 3
        others = [
            _full(model, ids, cells[a : a + few], [copies[0], *copies[1:][a : a + few]]).delta_nll
            for a in range(0, len(cells), few)
        ]
        reduced = torch.median if is_half(model.dtype) else torch.amax
        noise = reduced((torch.cat(others)[:, 0] - theirs[0]).abs())
        return float(reduced((mine[0] - theirs[0]).abs())), float(noise)
    difference = max(float((a - b).abs().max()) for a, b in zip(mine, theirs))
    return difference, float(full.delta_nll.abs().max())


def _full(
    model: Model, ids: torch.Tensor, cells: list[_Cell], copies: list[dict[int, Edit]]
) -> Outcomes:
    """Effects of the cells by one batch of copies, the first of them not edited; (cells, 1)."""
    logits = run(model, ids, copies)  # (1 + cells, tokens, vocab)
    at = torch.tensor([cell.position for cell in cells], device=logits.device)
    copy = torch.arange(1, 1 + len(cells), device=logits.device)
    return compare(logits[0, at].clone(), logits[copy, at][:, None], ids[0, at + 1].to(at.device))


def _sampled(model: Model, positions: int) -> list[_Cell]:
    """Up to `CELLS` cells, the same for the same model: every layer in turn, then at random."""
    rng = np.random.default_rng(_SEED)
    layers = model.anatomy.layers
    per_layer = [
        rng.permutation([(p, r) for p in range(positions) for r in range(layer.top_k)]).tolist()
        for layer in layers
    ]
    order = [
        _Cell(layers[i], *per_layer[i][turn])
        for turn in range(max(len(cells) for cells in per_layer))
        for i in rng.permutation(len(layers)).tolist()
        if turn < len(per_layer[i])
    ]
    return order[:CELLS]


def _removed(cell: _Cell, seen: ExpertsSeen) -> dict[int, Edit]:
    """A copy of the document with that cell's expert removed, in the slot where it stood."""
    order = seen.weight[cell.position].argsort(descending=True, stable=True)

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Answer:  # noqa: ARG001
        weight = weight.clone()
        weight[cell.position, order[cell.rank].to(weight.device)] = 0.0
        return Answer(index, weight)

    return {cell.layer.index: edit}
