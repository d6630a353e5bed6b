"""Experts without weights that put out zero: what a block that has some looks like, and how a checkpoint says so.

A router with N + N_Z rows chooses among N experts and N_Z that do nothing (zero experts, arXiv 2605.18643). The
experts module is given an index of N or more for those, and must not pass it on: of transformers'
implementations one skips it, one raises and one silently computes something else. Here such a pick goes
to expert 0 with weight 0. The checkpoint's config.json says it under `zero_experts`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from moeaudit.errors import ModelError

MARK = "zero_experts"
RULES = {
    "own": "the router's own rule over all picks, zero ones included: what falls on zero experts is lost",
    "selected": "all picks, zero ones included, are scaled to a sum of 1",
    "non-zero": "the mass of zero picks goes to the other picks of the token",
}
_COUNTS = ("num_experts", "n_routed_experts", "num_local_experts")


@dataclass(frozen=True)
class ZeroExperts:
    """How many zero experts each layer has, and what the weights of the other picks are (`RULES`)."""

    count: int
    weights: str = "own"

    @classmethod
    def of(cls, config: Any) -> ZeroExperts | None:
        """What a configuration says; None where it has none. Raises ModelError for a mark that says it otherwise."""
        mark = getattr(config, MARK, None)
        if mark is None:
            return None
        said = mark if isinstance(mark, Mapping) else {}
        count, weights = said.get("count"), said.get("weights", "own")
        if (
            isinstance(count, bool)
            or not isinstance(count, int)
            or count < 1
            or weights not in RULES
        ):
            raise ModelError(
                f"config.json says {MARK} = {mark!r}, and {{'count': N, 'weights': one of {', '.join(RULES)}}} was "
                "expected, as moeaudit.lab writes it. Take the config.json that was saved with the weights."
            )
        return cls(count, weights)


@dataclass(frozen=True)
class Block:
    """A router and the experts it chooses from, by path of the experts."""

    path: str
    router: nn.Module
    experts: nn.Module

    @property
    def num_experts(self) -> int:
        """Experts that have weights."""
        return next(p.shape[0] for p in self.experts.parameters() if p.dim() == 3)


def blocks_of(hf: nn.Module) -> list[Block]:
    """The MoE blocks of a model by the shapes of their weights, no forward run (it may have no weights yet).

    Raises ModelError for experts whose router is not one module with a matrix of one row for each expert, beside
    them, and for a router that first chooses among groups of experts.
    """
    modules = dict(hf.named_modules())
    found = []
    for path, module in modules.items():
        stacks = [p.shape[0] for p in module.parameters(recurse=False) if p.dim() == 3]
        if not stacks or len(set(stacks)) > 1:
            continue
        size = stacks[0] + getattr(module, MARK, 0)
        parent = modules[path.rpartition(".")[0]]
        routers = [
            child
            for child in parent.children()
            if child is not module
            and any(p.dim() == 2 and p.shape[0] == size for p in child.parameters(recurse=False))
        ]
        where = f"{type(hf).__name__}: the experts at '{path}'"
        if len(routers) != 1:
            raise ModelError(
                f"{where} have {len(routers)} modules beside them with one row for each of {size} experts, and one "
                "router was expected. Zero experts cannot be added to this model."
            )
        if (getattr(routers[0], "num_group", 1) or 1) > 1:
            raise ModelError(
                f"{where}: {type(routers[0]).__name__} first chooses among {routers[0].num_group} groups of equal "
                "size, so that further experts would move others into other groups. Zero experts cannot be added to it."
            )
        found.append(Block(path, routers[0], module))
    if not found:
        raise ModelError(
            f"{type(hf).__name__} holds no fused experts (weights of shape experts x ... x ...), so there is no router "
            "to add zero experts to."
        )
    return found


def widen(hf: nn.Module, zero: ZeroExperts) -> list[Block]:
    """Give every router of `hf` rows for zero experts, not yet filled, in place; the experts skip such picks.

    The old rows keep their values. Writes the mark into the configuration. Raises ModelError for a model that has
    zero experts already, and as `blocks_of`.
    """
    blocks = blocks_of(hf)
    if any(getattr(block.experts, MARK, 0) for block in blocks):
        raise ModelError(f"{type(hf).__name__} has zero experts already; they are added once.")
    for block in blocks:
        size = block.num_experts
        for name, tensor in [
            *block.router.named_parameters(recurse=False),
            *block.router.named_buffers(recurse=False),
        ]:
            if tensor.dim() and tensor.shape[0] == size:
                wide = tensor.detach().new_zeros(size + zero.count, *tensor.shape[1:])
                wide[:size] = tensor.detach()
                if isinstance(tensor, nn.Parameter):
                    block.router._parameters[name] = nn.Parameter(wide, tensor.requires_grad)  # noqa: SLF001
                else:
                    block.router._buffers[name] = wide  # noqa: SLF001
        for name in _COUNTS:
            if getattr(block.router, name, None) == size:
                setattr(block.router, name, size + zero.count)
        kept: Any = block.experts
        kept.zero_experts = zero.count
        block.experts.__class__ = _skipping(type(block.experts))
        if zero.weights != "own":
            other: Any = block.router
            other.zero_rule = (size, zero.weights)
            block.router.__class__ = _weighing(type(block.router))
    config: Any = hf.config
    setattr(config, MARK, asdict(zero))
    return blocks


@functools.cache
def _skipping(base: type[nn.Module]) -> type[nn.Module]:
    """The experts' class with picks of N or more sent to expert 0 with weight 0."""

    def forward(
        self: Any, hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        real = index < self.num_experts
        index, weight = torch.where(real, index, 0), torch.where(real, weight, 0.0).to(weight.dtype)
        return base.forward(self, hidden, index, weight)

    return _named_as(base, forward)


@functools.cache
def _weighing(base: type[nn.Module]) -> type[nn.Module]:
    """The router's class with the weights of its picks by another rule."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        logits, weight, index = base.forward(self, *args, **kwargs)
        size, rule = self.zero_rule
        total = weight.sum(-1, keepdim=True)
        if rule == "selected":
            return logits, weight / total, index
        real = torch.where(index < size, weight, 0.0).to(weight.dtype)
        left = real.sum(-1, keepdim=True)
        # A token all of whose picks are zero experts has nobody to give the mass to.
        return logits, torch.where(left > 0, real * (total / left), real).to(weight.dtype), index

    return _named_as(base, forward)


def _named_as(base: type[nn.Module], forward: Any) -> type[nn.Module]:
    return type(base.__name__, (base,), {"forward": forward, "__module__": base.__module__})


def zero_class(auto: Any, config: Any) -> Any:
    """`auto`, or for a checkpoint with zero experts its class, made with the rows that its files hold."""
    zero = ZeroExperts.of(config)
    if zero is None:
        return auto
    base = auto._model_mapping[type(config)]  # noqa: SLF001
    return _made_with(base, zero)


@functools.cache
def _made_with(base: type[nn.Module], zero: ZeroExperts) -> type[nn.Module]:
    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        base.__init__(self, config, *args, **kwargs)
        widen(self, zero)

    made: Any = type(base.__name__, (base,), {"__init__": __init__, "__module__": base.__module__})
    made.from_config = made._from_config  # noqa: SLF001
    kind: Any = base
    made._model_mapping = {kind.config_class: made}  # noqa: SLF001
    return made
