"""What rounding explains, by the kind of number it happens in.

Two ways to compute one thing differ in the last places. Every comparison of the package allows what
is named here and no more, so that one identity has one tolerance. Figures are shares of the largest
number of the kind compared (measured on the architectures of the tests, several times what they
show) unless they say nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Rounding:
    """What rounding explains where activations are one kind of number."""

    # An output of a module computed in two orders, of the largest sum of contributions in it.
    output: float
    # The router's answer for the same token among other rows, of the token's largest weight.
    answer: float
    # A token through a layer as a row of its own: of what the layer does, and of the output's size.
    row: tuple[float, float]
    # An effect by two engines: a floor in nats, and a share of the largest effect (a model with
    # loud weights amplifies rounding; a row that cannot follow is off by its whole effect).
    effect: tuple[float, float]
    # One effect recomputed by a forward of its own, nats: 1e-5, or 16 units of the last place,
    # which is about four times what tiny models show.
    verified: float
    # A logit of two models that should be one, for logits of the order of 1.
    logit: float


_ROUNDING = {
    # Softmax is in float32 even here, in transformers' eager attention and in most routers.
    torch.float64: Rounding(1e-10, 1e-6, (1e-5, 1e-7), (1e-7, 1e-5), 1e-5, 1e-5),
    torch.float32: Rounding(1e-5, 1e-5, (5e-5, 5e-6), (1e-6, 1e-4), 1e-5, 1e-5),
    torch.float16: Rounding(1e-2, 4e-3, (2e-2, 5e-3), (2e-2, 5e-2), 16 * 2**-10, 2e-2),
    torch.bfloat16: Rounding(5e-2, 3e-2, (5e-2, 2e-2), (1e-1, 1e-1), 16 * 2**-7, 1e-1),
}
_HALF = (torch.float16, torch.bfloat16)


def is_half(dtype: torch.dtype) -> bool:
    """Whether activations of this kind hide small differences: float16 and bfloat16."""
    return dtype in _HALF


def rounding(x: Any) -> Rounding:
    """What rounding explains in `x`, a tensor or a Model: whatever has a dtype and a device.

    Where torch is told to multiply float32 in TF32 or bfloat16 (`set_float32_matmul_precision`,
    `allow_tf32`), products have the digits of those: 10 bits, which is float16's, or 7.
    """
    return _ROUNDING.get(_multiplied(x), _ROUNDING[torch.float32])


def _multiplied(x: Any) -> Any:
    if x.dtype != torch.float32:
        return x.dtype
    backend: Any = torch.backends.cuda if x.device.type == "cuda" else torch.backends.mkldnn
    how = str(backend.matmul.fp32_precision)
    return {"tf32": torch.float16, "bf16": torch.bfloat16}.get(how, x.dtype)


def full(x: torch.Tensor) -> torch.Tensor:
    """At least float32: float64 stays, half precision is widened."""
    return x if x.dtype == torch.float64 else x.float()


def units(x: torch.Tensor, count: int) -> float:
    """`count` units in the last place of 1: for sums and products of a handful of numbers."""
    return count * torch.finfo(x.dtype).eps
