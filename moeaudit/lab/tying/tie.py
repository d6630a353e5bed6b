"""Tie and untie: followers point at the leader's tensors, and the checkpoint says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.errors import InputError
from moeaudit.models.anatomy import Anatomy, known_anatomy
from moeaudit.models.find import find_anatomy
from moeaudit.models.forward import evaluating
from moeaudit.models.sources.tied import MARK, declare, tied_keys, tied_paths, undeclare
from moeaudit.stats.sets.groups import groups_of

from .groups import Groups, consecutive, fused, layers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def tie(
    model: PreTrainedModel,
    group: int = 2,
    first: int = 1,
    last: int = 1,
    *,
    groups: Any = None,
) -> Groups:
    r"""Let groups of layers share one bank of experts, before training (Expert Tying, arXiv 2606.16825).

    MoE layers are cut into consecutive groups of `group`, the `first` and the `last` of them left as they are; or
    `groups` names them by decoder layer. In each group the followers' fused tensors (`gate_up_proj`, `down_proj`)
    become the leader's, the same `Parameter` objects, so that gradients of all sites add up. Routers, attention,
    norms and shared experts stay each layer's own.

    The model is changed in place and declares its shared tensors to transformers: `save_pretrained` writes the
    leader's alone, config.json says who shares them, and `moeaudit.load(folder)` ties them again. transformers
    alone would start the followers at random (it warns); give it an untied copy (`untie`).

    Tying layers that are trained already is another thing, and lossy: `post_hoc_tying`.

    Returns:
        The groups, decoder layer indices, leader first.

    Raises:
        InputError: groups that do not fit or overlap, layers of different shapes, layers that are tied already,
            experts without fused tensors, or a `moeaudit` model instead of the transformers model inside it.
    """
    anatomy = anatomy_of(model, "tie")
    chosen = (
        consecutive(anatomy.indices, group, first, last) if groups is None else groups_of(groups)
    )
    point(model, anatomy, chosen)
    return chosen


@torch.no_grad()
def untie(model: PreTrainedModel) -> Groups:
    """Give each layer a copy of the experts that it shares, so that any loader can read the checkpoint.

    The function of the model stays the same; the model is changed in place. Returns the groups that were.

    Raises:
        InputError: a model none of whose layers share experts.
    """
    anatomy = anatomy_of(model, "untie")
    groups = anatomy.tied
    if not groups:
        raise InputError(
            f"No two layers of this {anatomy.architecture} share their experts, so there is nothing to untie."
        )
    undeclare(model, tied_keys(model, tied_paths(model.config)))
    for group in groups:
        for index in group[1:]:
            experts = anatomy[index].experts
            for name, tensor in fused(anatomy[index]).items():
                setattr(experts, name, nn.Parameter(tensor.clone(), tensor.requires_grad))  # type: ignore[attr-defined]
    if hasattr(model.config, MARK):
        delattr(model.config, MARK)
    return groups


def tied_groups(model: Any) -> Groups:
    """Groups of layers that share one bank of experts in memory, found by identity; () for none.

    `model` is a transformers model or one that `moeaudit.load` returned.
    """
    anatomy = getattr(model, "anatomy", None)
    return (anatomy or anatomy_of(model, "tied_groups")).tied


def anatomy_of(model: Any, caller: str) -> Anatomy:
    """Where the experts are. Raises InputError for what is no transformers model."""
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        hint = "its .hf, before it is loaded" if hasattr(model, "hf") else "a transformers model"
        raise InputError(
            f"{caller}() was given a {type(model).__name__}, and changes a transformers model in place: give it {hint}."
        )
    known = known_anatomy(model)
    if known is not None:
        return known
    with evaluating(model):
        return find_anatomy(model)  # type: ignore[arg-type]


def point(model: PreTrainedModel, anatomy: Anatomy, groups: Groups) -> None:
    """Have followers hold their leader's tensors, and write down that they do."""
    layers = layers_of(anatomy, groups)
    before = getattr(model.config, MARK, None) or {}
    paths = {
        follower.experts_path: lead.experts_path for lead, *rest in layers for follower in rest
    }
    for lead, *rest in layers:
        for follower in rest:
            for name, tensor in fused(lead).items():
                setattr(follower.experts, name, tensor)
    setattr(model.config, MARK, {"keys": {**before.get("keys", {}), **paths}})
    declare(model, tied_keys(model, paths))
