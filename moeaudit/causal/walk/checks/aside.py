"""What layers are called with when all of them stand aside: asked without their weights."""

from __future__ import annotations

from typing import Any

import torch

from moeaudit.models import Model
from moeaudit.models.contract.probe import probe_ids
from moeaudit.models.precision import not_memory

from ...attention.reroute import RowsDoNotHold, rows_attend
from ..head import layer_arguments
from ..layout import LENGTHS, Layout, Path, map_tensors, moving, shapes_of

ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)


@torch.no_grad()
def called_aside(model: Model, ids: torch.Tensor) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of each layer; nothing where layers cannot stand aside."""
    try:
        with rows_attend(model.hf):
            return layer_arguments(model, ids)
    except ERRORS as error:
        not_memory(error, f"calling the layers of {model.name} one by one")
        return []


@torch.no_grad()
def layout_aside(model: Model) -> Layout | None:
    """The layout where layers stand aside, which needs none of their weights.

    None where they cannot: where layers return more than a hidden state, say. That they are called in the
    same way when they do not stand aside is still to be seen.
    """
    found = []
    try:
        for length in LENGTHS:
            given = called_aside(model, probe_ids(model.hf, length))
            found.append([shapes_of(i, *call, length) for i, call in enumerate(given)])
        layout = moving(*found)
    except (RowsDoNotHold, *ERRORS) as error:
        not_memory(error, f"calling the layers of {model.name} one by one")
        return None
    return layout if len(layout) == model.anatomy.n_layers else None


def same_besides(real: Any, apart: Any, hidden: Path) -> bool:
    """Whether two calls have the same tensors at the same places, the hidden state left out."""
    sides: list[dict[Path, torch.Tensor]] = [{}, {}]
    for side, call in zip(sides, (real, apart)):
        map_tensors(side.__setitem__, call)
        side.pop(hidden, None)
    return sides[0].keys() == sides[1].keys() and all(
        x.shape == sides[1][path].shape and torch.equal(x, sides[1][path])
        for path, x in sides[0].items()
    )
