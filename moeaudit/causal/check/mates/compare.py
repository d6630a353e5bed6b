"""What of one sample is compared: whom the router chose, with what weights, and what came out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Seen:
    """One sample's pass: `index` and `weight` of the experts' call (None where none was seen), and the output."""

    output: Float[torch.Tensor, "tokens width"]
    index: Int[torch.Tensor, "tokens top_k"] | None = None
    weight: Float[torch.Tensor, "tokens top_k"] | None = None


@dataclass(frozen=True)
class Apart:
    """How far two passes of one sample are from each other.

    `tokens`: how many were compared; `moved`: of them, those with another set of experts; `tied`: of the moved,
    those whose weights are equal in both passes, so that either set is the router's answer. `weight`: largest
    difference of a routing weight, of tokens that kept their set, as a share of the token's largest weight.
    `output`: largest difference of an output, as a share of the sample's largest output.
    """

    tokens: int = 0
    moved: int = 0
    tied: int = 0
    weight: float = 0.0
    output: float = 0.0

    def __or__(self, other: Apart) -> Apart:
        """Both together: counts add up, differences are the larger."""
        return Apart(
            self.tokens + other.tokens,
            self.moved + other.moved,
            self.tied + other.tied,
            max(self.weight, other.weight),
            max(self.output, other.output),
        )


_TIE = 1e-9  # of the token's largest weight; float64 keeps 1e-16


def apart(one: Seen, other: Seen) -> Apart:
    """Compare two passes of the same sample."""
    scale = one.output.abs().max().double().clamp_min(torch.finfo(torch.float64).tiny)
    output = float((one.output.double() - other.output.double()).abs().max() / scale)
    tokens = len(one.output)
    if one.index is None or other.index is None or one.weight is None or other.weight is None:
        return Apart(tokens, output=output)
    mine, order = one.index.sort(-1)
    theirs, order_theirs = other.index.sort(-1)
    weight = one.weight.double().gather(-1, order)
    weighs = other.weight.double().gather(-1, order_theirs)
    largest = weight.abs().amax(-1).clamp_min(torch.finfo(torch.float64).tiny)
    moved = (mine != theirs).any(-1)
    off = (weight - weighs).abs().amax(-1) / largest
    by_size = (weight.sort(-1).values - weighs.sort(-1).values).abs().amax(-1) / largest
    kept = off[~moved]
    return Apart(
        tokens,
        int(moved.sum()),
        int((moved & (by_size <= _TIE)).sum()),
        float(kept.max()) if len(kept) else 0.0,
        output,
    )
