"""Can rows stand for full forwards in this model? Measured on a short text, layer by layer, cell by cell."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch

from moeaudit.models import Model
from moeaudit.models.contract.probe import probe_ids
from moeaudit.models.precision import is_half, not_memory, rounding
from moeaudit.models.precision.widened import in_float32

from ..attention.reroute import RowsDoNotHold
from ..operators.weights import Zero
from .checks.aside import layout_aside
from .checks.cells import CELLS as CELLS
from .checks.cells import Compared, spread
from .checks.cells import compared as _compared
from .checks.structure import LaidOutOtherwise, LoneRows, Structure
from .checks.told import told
from .layout import Layout, layer_layout
from .plan import WalkPlan
from .wavefront import Wavefront

TOKENS = 13
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

    A model's weights are gone through three times: each layer alone, a walk, and full forwards of the same
    cells; in half precision the walk and the forwards are made in that precision, too. Raises OutOfMemory, of
    which no verdict is made.
    """
    _LOG.info("%s: comparing rows with full forwards on %d tokens", model.name, TOKENS)
    replay = _in_float32(model) if is_half(model.dtype) else None
    if replay is None or replay.engine == "wavefront":
        # What layers do with rows is seen in float32, and holds in half precision as well.
        replay = _choose(model, replay)
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
def _choose(model: Model, known: Replay | None = None) -> Replay:
    """The engine, by structure and by numbers; with what float32 found, by numbers alone.

    What mixes tokens was then looked for in float32, where it shows. Half precision would not tell
    it from two experts that tie in its few digits.
    """
    ids = probe_ids(model.hf, TOKENS)
    positions = torch.arange(TOKENS - 1, device=ids.device)
    try:
        found = _structure(model, ids, positions) if known is None else known
        some = spread(list(model.anatomy.layers))
        plan = WalkPlan(model, some, Zero(), found.layout, found.residual_scale)
        walk = Wavefront(plan, ids, positions, keep_clean=True)
        with told(model, f"rows of {len(some)} layers"):
            rows = walk.run()
    except RowsDoNotHold as refusal:
        unknown: dict[int, float | None] = dict.fromkeys(model.anatomy.indices)
        return Replay("full forwards", str(refusal), None, [], unknown)
    except _ERRORS as error:
        # A layer that cannot even be called with rows; the message is kept for the user.
        not_memory(error, f"trying rows in {model.name}")
        reason = f"its decoder layers do not take lone rows ({_first(error)})"
        unknown = dict.fromkeys(model.anatomy.indices)
        return Replay("full forwards", reason, None, [], unknown)
    with told(model, "full forwards of the same cells"):
        seen = _compared(model, walk, rows)
    loss = walk.largest_loss()
    off, holds = seen[0], _holds(model, loss, Compared(*seen))
    if not holds:
        # The same forward among other copies differs by rounding too, by more on a GPU. Where two experts
        # tie in half precision's few digits it even goes to another one; structure was seen in float32
        # then, so the typical cell decides.
        with told(model, "full forwards in batches of another size"):
            seen = Compared(*_compared(model, walk, rows, True))
        holds = _holds(model, loss, seen, typical=True)
    if not holds:
        # A model in half precision gets here only after its rows held in float32.
        why = (
            f"more than rounding of {str(model.dtype).removeprefix('torch.')} explains, though they agree in float32"
            if is_half(model.dtype)
            else "it mixes tokens, or carries state between layers, outside of attention"
        )
        reason = f"rows and full forwards disagree on a short text (by {off:.1e} nats): {why}"
        return Replay("full forwards", reason, off, found.layout, found.residual_scale)
    return Replay("wavefront", None, off, found.layout, found.residual_scale, found.driven)


def _holds(model: Model, loss: float, seen: Compared, *, typical: bool = False) -> bool:
    """Whether rounding explains by how much rows and full forwards differ; `loss` is the largest clean one, nats.

    It explains what the text without an edit differs by between two batches, four times; a share of the
    largest effect; and a floor: no less than four last places of the loss, which is what two sums over
    a large vocabulary may differ by, whatever the size of the effects.
    """
    floor, share = rounding(model).effect
    share = 0.0 if typical and is_half(model.dtype) else share
    places = 4 * loss * torch.finfo(torch.float32).eps
    return seen.off <= max(floor, places) + share * seen.largest + 4 * seen.noise


def _structure(model: Model, ids: torch.Tensor, positions: torch.Tensor) -> Structure:
    """What layers do with rows; the layout from layers that stand aside where that is the real one."""
    unknown: dict[int, float | None] = dict.fromkeys(model.anatomy.indices)
    aside = layout_aside(model)
    for layout in [] if aside is None else [aside]:
        plan = WalkPlan(model, list(model.anatomy.layers), Zero(), layout, unknown)
        try:
            with told(model, "each layer with rows of its own"):
                return LoneRows(plan, ids, positions).check()
        except LaidOutOtherwise:
            pass
    with told(model, "how layers are called"):
        layout = layer_layout(model)
    plan = WalkPlan(model, list(model.anatomy.layers), Zero(), layout, unknown)
    with told(model, "each layer with rows of its own"):
        return LoneRows(plan, ids, positions).check()


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
