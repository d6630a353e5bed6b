"""Which layers share a bank: consecutive groups between free ends, or groups that are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from moeaudit.errors import InputError
from moeaudit.models.anatomy import Anatomy, MoELayer
from moeaudit.stats.sets.groups import Groups


def consecutive(indices: Sequence[int], group: Any, first: Any, last: Any) -> Groups:
    """MoE layers in groups of `group`, the `first` and the `last` of them left free.

    Raises InputError where a number is none, or the layers between the ends are no whole number of groups.
    """
    for name, value, least in (("group", group, 2), ("first", first, 0), ("last", last, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} = {value!r}: a whole number from {least} was expected.")
    middle = list(indices)[first : len(indices) - last]
    if not middle or len(middle) % group:
        raise InputError(
            f"Groups of {group} do not fit: of the {len(indices)} MoE layers {list(indices)} the first {first} and the "
            f"last {last} are left free, and {len(middle)} remain. A multiple of {group} was expected; change group, "
            "first or last, or name the groups yourself (groups=[[1, 2], ...])."
        )
    return tuple(tuple(middle[a : a + group]) for a in range(0, len(middle), group))


def layers_of(anatomy: Anatomy, groups: Groups) -> list[list[MoELayer]]:
    """The layers of each group, leader first.

    Raises InputError for layers that do not exist, layers that share a bank already, layers without fused
    experts tensors, and layers whose tensors have different shapes or whose experts are of different classes.
    """
    tied = {i for group in anatomy.tied for i in group}
    found = []
    for group in groups:
        layers = [anatomy[i] for i in group]
        again = [layer.index for layer in layers if layer.index in tied]
        if again:
            raise InputError(
                f"Layer {again[0]} shares its experts with other layers already ({[list(g) for g in anatomy.tied]}). "
                "Untie the model first (moeaudit.lab.untie), or leave the layer out."
            )
        for layer in layers:
            _require_fused(layer)
        lead = layers[0]
        for layer in layers[1:]:
            ours, theirs = (
                {name: tuple(p.shape) for name, p in fused(one).items()} for one in (lead, layer)
            )
            if ours != theirs or type(lead.experts) is not type(layer.experts):
                raise InputError(
                    f"Layers {lead.index} and {layer.index} cannot share experts: layer {lead.index} has {ours} "
                    f"({type(lead.experts).__name__}) and layer {layer.index} {theirs} "
                    f"({type(layer.experts).__name__}). Tensors of the same shapes were expected; choose layers of "
                    "one kind."
                )
        found.append(layers)
    return found


def fused(layer: MoELayer) -> dict[str, nn.Parameter]:
    """The tensors of a layer's experts by their names on the experts module."""
    own = layer.experts._parameters  # noqa: SLF001
    return {name: p for name, p in own.items() if p is not None}


def _require_fused(layer: MoELayer) -> None:
    own = fused(layer)
    inside = sum(1 for _ in layer.experts.parameters())
    if inside > len(own) or not any(p.ndim == 3 for p in own.values()):  # type: ignore[attr-defined]
        raise InputError(
            f"{layer.name}: the experts ({type(layer.experts).__name__}) do not hold fused tensors of their own, of "
            "shape (experts, rows, columns), so there is nothing that another layer could point at. Models of "
            "transformers >= 5 hold them so (gate_up_proj, down_proj); modules of single experts are not tied here."
        )
