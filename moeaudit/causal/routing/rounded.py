"""Routers in another precision: their scores computed from rounded inputs and weights, their rule left as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from moeaudit.errors import ContractError, one_of
from moeaudit.models import MoELayer

PRECISIONS = ("float32", "bfloat16", "int8")


def rounded(x: torch.Tensor, precision: str) -> torch.Tensor:
    """`x` as `precision` holds it, in float32 again; int8 is symmetric, with one scale for each row (127 levels)."""
    if precision == "float32":
        return x.float()
    if precision == "bfloat16":
        return x.to(torch.bfloat16).float()
    scale = x.float().abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (x.float() / scale).round().clamp(-127, 127) * scale


class _Scores(TorchFunctionMode):
    """While active, a linear map onto as many numbers as there are experts is the router's scores."""

    def __init__(self, experts: int, precision: str) -> None:
        super().__init__()
        self.experts, self.precision, self.made = experts, precision, 0

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") != "linear" or args[1].shape[0] != self.experts:
            return func(*args, **kwargs)
        self.made += 1
        hidden, weight = (rounded(x, self.precision) for x in args[:2])
        rest = [None if x is None else x.float() for x in args[2:]]
        scores = func(hidden, weight, *rest, **kwargs)
        # Products of int8 are summed without loss; bfloat16 scores are written in bfloat16.
        return scores.bfloat16().float() if self.precision == "bfloat16" else scores


@contextmanager
def routers_in(layers: Iterable[MoELayer], precision: str) -> Iterator[None]:
    """Inside, the routers of `layers` compute their scores in `precision`; all else is as it was.

    float32: inputs and weights widened; bfloat16: both rounded, products summed in float32, scores rounded; int8: both
    rounded to 127 levels of their row's largest number, as dynamic quantisation does, products summed exactly. The
    softmax or sigmoid, the choice and the weights follow by the model's own rule from these scores.

    Raises InputError for another precision; ContractError for a layer whose router is not found, or makes its scores
    otherwise than by one linear map (seen when it runs).
    """
    one_of(precision, PRECISIONS, "precision of routers")
    replaced: list[tuple[Any, bool, Any]] = []
    try:
        for layer in layers:
            router = layer.router
            if router is None:
                raise ContractError(
                    f"{layer.name}: no router module was found, so its scores cannot be computed in {precision}."
                )
            own = "forward" in router.__dict__
            replaced.append((router, own, router.forward))
            router.forward = _around(layer, router.forward, precision)
        yield
    finally:
        for router, own, forward in reversed(replaced):
            if own:
                router.forward = forward
            else:
                del router.forward


def _around(layer: MoELayer, forward: Callable[..., Any], precision: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with _Scores(layer.num_experts, precision) as scores:
            out = forward(*args, **kwargs)
        if not scores.made:
            raise ContractError(
                f"{layer.name}: {type(layer.router).__name__} makes its scores otherwise than by one linear map onto "
                f"{layer.num_experts} experts, so they cannot be computed in {precision}."
            )
        return out

    return run
