"""Routers that first choose among groups of experts: how many groups, and how few experts each can do with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from moeaudit.errors import ContractError, InputError
from moeaudit.models import Model
from moeaudit.models.contract.probe import probe_ids
from moeaudit.models.forward import evaluating
from moeaudit.models.precision import not_memory
from moeaudit.models.router import without_experts

from ..choose import Groups

_NAMES = ("n_group", "num_expert_group", "num_expert_groups")
_TOKENS = 16


def group_count(model: Model) -> int:
    """Groups that the router chooses among first; 1 where it does not."""
    config = model.hf.config.get_text_config()
    if getattr(config, "topk_method", None) == "greedy":
        return 1  # DeepSeek-V2 states groups and does not use them then
    groups = next((n for name in _NAMES if (n := getattr(config, name, None))), 1)
    whole = isinstance(groups, int) and all(
        layer.num_experts % groups == 0 for layer in model.anatomy.layers
    )
    return groups if whole else 1


def groups_of(model: Model) -> Groups | None:
    """The groups of the model's router with the fewest experts that each can do with; None without groups.

    The fewest is found by trying: a short text is read to see how many of a group are ranked together, and
    again with all groups cut down to so many, then one more ...
    Raises InputError where no number of experts below all is enough.
    """
    count = group_count(model)
    if count < 2:
        return None
    size = min(layer.num_experts for layer in model.anatomy.layers) // count
    first = min(size, _ranked_in_a_group(model, count))
    return Groups(count, next((n for n in range(first, size) if _runs(model, count, n)), size))


class _Ranks(TorchFunctionMode):
    """While active, sees how many experts of a group are ranked together (DeepSeek-V3 scores one by its best two)."""

    def __init__(self, numbers: set[int], sizes: set[int]) -> None:
        super().__init__()
        self.numbers, self.sizes = numbers, sizes
        self.most = 1

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "topk" and args and self._in_a_group(args[0]):
            self.most = max(self.most, int(kwargs.get("k", args[1] if len(args) > 1 else 1)))
        return func(*args, **kwargs)

    def _in_a_group(self, x: Any) -> bool:
        """One number for each token and expert, the last dimension a group."""
        return (
            isinstance(x, torch.Tensor) and x.numel() in self.numbers and x.shape[-1] in self.sizes
        )


@torch.no_grad()
def _ranked_in_a_group(model: Model, count: int) -> int:
    ids = probe_ids(model.hf, min(_TOKENS, model.max_length))
    experts = {layer.num_experts for layer in model.anatomy.layers}
    with (
        evaluating(model.hf),
        _Ranks({ids.numel() * n for n in experts}, {n // count for n in experts}) as seen,
    ):
        model.hf(input_ids=ids, use_cache=False)
    return seen.most


@torch.no_grad()
def _runs(model: Model, count: int, left: int) -> bool:
    """Whether the router answers with `left` experts in each group, masked and as it would stand without them."""
    gone = {
        layer.index: [
            e for e in range(layer.num_experts) if e % (layer.num_experts // count) >= left
        ]
        for layer in model.anatomy.layers
    }
    config = model.hf.config.get_text_config()
    chosen = getattr(config, "topk_group", None) or count
    if any(chosen * left < layer.top_k for layer in model.anatomy.layers):
        return False
    ids = probe_ids(model.hf, min(_TOKENS, model.max_length))
    try:
        with evaluating(model.hf), without_experts(model, gone, scores="remaining"):
            logits = model.hf(input_ids=ids, use_cache=False).logits
    except (ContractError, InputError):
        return False
    except (RuntimeError, IndexError) as error:
        not_memory(error, "reading a short text with fewer experts in each group")
        return False
    return bool(torch.isfinite(logits).any(-1).all())


def check_groups(model: Model, kept: Mapping[int, Sequence[int]]) -> None:
    """Raises InputError unless each group of a layer keeps the same number, and enough for the router."""
    groups = groups_of(model)
    if groups is None:
        return
    for layer in model.anatomy.layers:
        size = layer.num_experts // groups.count
        left = np.bincount([e // size for e in kept[layer.index]], minlength=groups.count)
        counted = ", ".join(map(str, left))
        instead = "or run the model with its weights in place: moeaudit.without_experts(model, {layer: experts})."
        if len(set(left.tolist())) > 1:
            raise InputError(
                f"{model.name}: its router first chooses among {groups.count} groups of {size} experts, and in "
                f"layer {layer.index} the groups would keep {counted}. A configuration can only state groups of "
                f"one size. Keep the same number in each group (pruning with scope 'layer' does), {instead}"
            )
        if int(left[0]) < groups.least:
            raise InputError(
                f"{model.name}: its router first chooses among {groups.count} groups of {size} experts, and cannot "
                f"answer with {left[0]} in each, which is what layer {layer.index} would keep. Keep at least "
                f"{groups.least} in each group, {groups.least * groups.count} in all, {instead}"
            )
