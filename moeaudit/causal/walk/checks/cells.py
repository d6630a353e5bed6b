"""Effects of sampled cells by full forwards, beside the rows' own, and the rounding between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import ExpertsSeen
from moeaudit.models.precision import is_half

from ...outcomes.compare import Outcomes, compare
from ..forwards import Answer, Edit, run
from ..plan import Walked
from ..wavefront import Wavefront

CELLS = 64  # how many effects are computed by full forwards too, spread over layers and ranks
LAYERS = 5  # of a deep model the first, the last and layers between give rows to compare
_SEED = 0


class Compared(NamedTuple):
    """Rows beside full forwards of the same cells, nats."""

    off: float  # by how much they differ
    largest: float  # the largest effect among them
    noise: float  # by how much one forward differs from itself in a batch of another size


@dataclass(frozen=True)
class Cell:
    layer: MoELayer
    position: int
    rank: int


def spread(layers: list[MoELayer]) -> list[MoELayer]:
    """At most `LAYERS` of the layers: the first, the last, and others evenly between."""
    if len(layers) <= LAYERS:
        return layers
    return [layers[i] for i in np.linspace(0, len(layers) - 1, LAYERS).round().astype(int)]


def compared(model: Model, walk: Wavefront, rows: Walked, again: bool = False) -> Compared:
    """Rows of a walk over a short text beside full forwards of sampled cells, in one batch.

    `off` is the largest difference. The noise is that of the text without an edit: alone, as the walk had
    it, and as one copy of the batch. With `again` it is that of the cells themselves, which run a second time
    in batches of another size; both are medians over the cells then in half precision.
    """
    cells = sampled(walk.plan.layers, len(rows.positions))
    copies = [{}, *(_removed(cell, walk.seen[cell.layer.index]) for cell in cells)]
    full, noise = _full(model, walk, cells, copies)
    at = torch.tensor([cell.position for cell in cells], device=full.kl.device)
    column = torch.tensor(
        [int((rows.layer == cell.layer.index).nonzero()[0]) + cell.rank for cell in cells],
        device=at.device,
    )
    mine = [x[at, column] for x in (rows.outcomes.delta_nll, rows.outcomes.kl)]
    theirs = [x[:, 0] for x in (full.delta_nll, full.kl)]
    largest = float(full.delta_nll.abs().max())
    if again:
        few = 1 + len(cells) // 3
        others = [
            _full(model, walk, cells[a : a + few], [copies[0], *copies[1:][a : a + few]])[0]
            for a in range(0, len(cells), few)
        ]
        reduced = torch.median if is_half(model.dtype) else torch.amax
        differ = (torch.cat([each.delta_nll for each in others])[:, 0] - theirs[0]).abs()
        return Compared(
            float(reduced((mine[0] - theirs[0]).abs())), largest, float(reduced(differ))
        )
    return Compared(max(float((a - b).abs().max()) for a, b in zip(mine, theirs)), largest, noise)


def _full(
    model: Model, walk: Wavefront, cells: list[Cell], copies: list[dict[int, Edit]]
) -> tuple[Outcomes, float]:
    """Effects of the cells, (cells, 1), by one batch of copies, the first of them not edited; and how far
    that one is from the text alone."""
    ids = walk.ids
    logits = run(model, ids, copies)  # (1 + cells, tokens, vocab)
    at = torch.tensor([cell.position for cell in cells], device=logits.device)
    copy = torch.arange(1, 1 + len(cells), device=logits.device)
    targets = ids[0, 1:].to(at.device)
    assert walk.clean is not None
    apart = compare(walk.clean[:-1], logits[0, :-1][:, None].clone(), targets)
    noise = float(apart.delta_nll.abs().max())
    return compare(logits[0, at].clone(), logits[copy, at][:, None], targets[at]), noise


def sampled(layers: list[MoELayer], positions: int) -> list[Cell]:
    """Up to `CELLS` cells, the same for the same model: every layer in turn, then at random."""
    rng = np.random.default_rng(_SEED)
    per_layer = [
        rng.permutation([(p, r) for p in range(positions) for r in range(layer.top_k)]).tolist()
        for layer in layers
    ]
    order = [
        Cell(layers[i], *per_layer[i][turn])
        for turn in range(max(len(cells) for cells in per_layer))
        for i in rng.permutation(len(layers)).tolist()
        if turn < len(per_layer[i])
    ]
    return order[:CELLS]


def _removed(cell: Cell, seen: ExpertsSeen) -> dict[int, Edit]:
    """A copy of the document with that cell's expert removed, in the slot where it stood."""
    order = seen.weight[cell.position].argsort(descending=True, stable=True)

    def edit(hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> Answer:  # noqa: ARG001
        weight = weight.clone()
        weight[cell.position, order[cell.rank].to(weight.device)] = 0.0
        return Answer(index, weight)

    return {cell.layer.index: edit}
