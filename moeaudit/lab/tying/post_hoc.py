"""Layers of a trained model made to share experts: an edit, and lossy. This is not Expert Tying."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.errors import one_of
from moeaudit.stats.sets.groups import groups_of

from .groups import Groups, consecutive, fused, layers_of
from .tie import anatomy_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TO = {"mean": "the mean of the group's tensors", "leader": "the first layer's tensors"}


@contextmanager
def post_hoc_tying(
    model: PreTrainedModel,
    group: int = 2,
    first: int = 1,
    last: int = 1,
    *,
    groups: Any = None,
    to: str = "mean",
) -> Iterator[Groups]:
    """Inside, layers of a trained model share experts: expert e of each is the mean over the group, or the leader's.

    Experts of different layers were trained apart and their numbers mean nothing to each other, so this destroys
    what they do (cosines of about 0.01 were found between experts of neighbouring layers, marin-community/marin#8032).
    It answers "what if trained layers were merged", never "what does Expert Tying cost", which needs training
    (`tie`). The model is put back after; what was loaded of it before knows nothing of the edit.

    Raises:
        InputError: as `tie`.
    """
    one_of(to, TO, "to")
    anatomy = anatomy_of(model, "post_hoc_tying")
    chosen = (
        consecutive(anatomy.indices, group, first, last) if groups is None else groups_of(groups)
    )
    layers = layers_of(anatomy, chosen)
    kept = [(layer.experts, fused(layer)) for group_ in layers for layer in group_]
    try:
        with torch.no_grad():
            for members in layers:
                for name in fused(members[0]):
                    tensors: list[torch.Tensor] = [getattr(m.experts, name) for m in members]
                    value = torch.stack(tensors).mean(0) if to == "mean" else tensors[0]
                    shared = nn.Parameter(value.clone(), requires_grad=False)
                    for member in members:
                        setattr(member.experts, name, shared)
        yield chosen
    finally:
        for experts, own in kept:
            for name, tensor in own.items():
                setattr(experts, name, tensor)
