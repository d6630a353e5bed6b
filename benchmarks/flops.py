"""How many floating-point operations a census needs: `runs.costs.flops.work_of` for a model that is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import moeaudit as ma
from moeaudit.models.accounting.shapes import measured_shapes
from moeaudit.runs.costs.flops import work_of


@dataclass(frozen=True)
class Flops:
    """Operations of one document: a plain forward, the census of every active expert, and the walk.

    `walk` is what the census really does: a row without an edit at each position goes along from the first
    sparse layer to the head, and each active expert is evaluated once more where rows are born.
    """

    forward: float
    census: float
    walk: float

    @staticmethod
    def of(model: ma.Model, tokens: int, share: float = 1.0) -> Flops:
        """For a document of `tokens` tokens, of which a share of the removals is made."""
        shapes = measured_shapes(model.hf, model.name)
        born = {layer.index: layer.top_k for layer in model.anatomy.layers}
        work = work_of(shapes, {tokens: 1}, born, share)
        return Flops(float(work.clean), float(work.flops), float(work.walked))
