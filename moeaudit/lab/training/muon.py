"""Muon for matrices and for stacks of expert matrices.

The momentum of every matrix is replaced by its nearest semi-orthogonal matrix, found by five
Newton-Schulz steps (Jordan et al., 2024). Stacked experts (E, rows, columns) are E matrices, and
a fused gate-and-up projection is two, so each expert gets an update of the same size however
rarely the router chose it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Quintic whose iterates drive every singular value in (0, 1] near 1; from the Muon write-up.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(
    matrices: Float[Tensor, "stack rows columns"], steps: int = 5
) -> Float[Tensor, "stack rows columns"]:
    """Each matrix with its singular values moved near 1 (within about 0.7 to 1.2)."""
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum with decoupled weight decay.

    The step is scaled by sqrt(max(1, rows / columns)), which keeps the change of a layer's output
    alike across shapes. `parts` says into how many matrices the rows of a parameter divide.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                direction = p.grad.lerp(buffer, group["momentum"])
                rows, columns = p.shape[-2] // group["parts"], p.shape[-1]
                update = orthogonalise(direction.reshape(-1, rows, columns)).view_as(p)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
