"""Zero experts added to a model that is there, and the static control: half as many experts for every token."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from moeaudit.errors import InputError, one_of
from moeaudit.models.experts.zero import RULES, ZeroExperts, blocks_of, widen
from moeaudit.seeds import generator


def target_share(experts: int, zero: int, weight: float | int = 2.0) -> float:
    r"""The share of picks at which the group loss is smallest: \(w N_Z / (N + w N_Z)\)."""
    return weight * zero / (experts + weight * zero)


def require_sensible(experts: int, top_k: int, zero: int, weight: float | int = 2.0) -> None:
    """Raise InputError for more zero experts than makes sense for the model's top-k.

    At the share of zero picks that the group loss asks for, a token must still have one expert on average.
    """
    if isinstance(zero, bool) or not isinstance(zero, int) or zero < 1:
        raise InputError(f"{zero!r} zero experts: a whole number of at least 1 was expected.")
    if isinstance(weight, bool) or not weight > 0:
        raise InputError(f"weight = {weight!r}: the weight of zero experts must be above 0.")
    left = top_k * (1 - target_share(experts, zero, weight))
    if left < 1:
        most = int((top_k - 1) * experts / weight)
        raise InputError(
            f"{zero} zero experts beside {experts} of which a token gets {top_k}: at the share of zero picks that the "
            f"group loss asks for ({target_share(experts, zero, weight):.0%}) a token would be left with {left:.2f} "
            + (
                f"experts on average, less than one. Add at most {most} with weight {weight:g}."
                if most
                else "of an expert on average. With top-1 there is nothing to skip but everything."
            )
        )


def _require_model(hf: Any) -> nn.Module:
    found = getattr(hf, "hf", hf)
    if not isinstance(found, nn.Module):
        raise InputError(
            f"{type(hf).__name__} is no model: a transformers model, or what moeaudit.load returned, was expected."
        )
    return found


@torch.no_grad()
def add_zero_experts(
    model: Any, count: int, *, weights: str = "own", weight: float | int = 2.0, seed: int = 0
) -> nn.Module:
    r"""Add `count` experts that put out zero to every MoE layer of `model`, in place; top-k stays.

    Each new row of a router is drawn from a normal distribution with the mean and the deviation of the old rows,
    dimension by dimension; a bias of the scores (the correction bias of sigmoid routers) is extended likewise. The
    softmax and the top-k are then over all \(N + N_Z\). `weights` says what becomes of the weight of zero picks:
    "own" (the router's own rule over all picks, so that what falls on zero experts is lost: routers that do
    not normalise leave the others as they are, those that do normalise over all picks, zero ones included, as the
    released code has it), "selected" (always normalised over all picks) or "non-zero" (their mass goes to the
    token's other picks, which inflates the routed branch; for comparison). `weight` is the w of the group loss
    that is going to be used. The number is written into the configuration as `zero_experts`, so that the model saves
    and loads (`moeaudit.load`) with its zero experts.

    `model` is a transformers model or a loaded one; returns the transformers model. Load it again
    (`moeaudit.load(hf)`) to audit it. Raises InputError for more zero experts than makes sense for top-k,
    ModelError for a router that cannot be extended.
    """
    hf = _require_model(model)
    one_of(weights, tuple(RULES), "weights")
    config: Any = hf.config
    blocks = blocks_of(hf)
    for block in blocks:
        require_sensible(block.num_experts, _top_k(block.router, config), count, weight)
    draws = generator(seed, "zero experts")
    sizes = {block.path: block.num_experts for block in blocks}
    for block in widen(hf, ZeroExperts(count, weights)):
        size = sizes[block.path]
        for tensor in (
            *block.router.parameters(recurse=False),
            *block.router.buffers(recurse=False),
        ):
            if not tensor.dim() or tensor.shape[0] != size + count:
                continue
            old = tensor[:size].double()
            new = torch.from_numpy(draws.standard_normal((count, *old.shape[1:]))).to(old)
            tensor[size:] = (old.mean(0) + new * old.std(0)).to(tensor)
    return hf


def _top_k(router: nn.Module, config: Any) -> int:
    found = getattr(router, "top_k", None)
    return int(found if isinstance(found, int) else config.num_experts_per_tok)


def half_top_k(model: Any) -> nn.Module:
    """Halve the top-k of every router, in place: the static control, which saves as much for every token alike.

    Raises InputError for an odd top-k, or one of 1, and for routers that do not hold their top-k.
    """
    hf = _require_model(model)
    config: Any = hf.config
    for block in blocks_of(hf):
        found: Any = block.router
        top_k = getattr(found, "top_k", None)
        if not isinstance(top_k, int) or top_k % 2:
            raise InputError(
                f"{type(found).__name__} has top-k {top_k!r}: an even number was expected, so that half of a token's "
                "experts can go."
            )
        found.top_k = top_k // 2
    config.num_experts_per_tok = config.num_experts_per_tok // 2
    return hf
