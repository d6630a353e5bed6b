"""The tilted loss of arXiv 2606.20544, as its code has it (`ginawong/calibrated_moe`)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from moeaudit.errors import InputError


def tilted(losses: Float[Tensor, " samples"], strength: float) -> Float[Tensor, ""]:
    """sum_i w_i l_i with w = softmax(strength * l); the mean at strength 0, the maximum at infinity.

    The weights are NOT detached, as published: the gradient is sum_i w_i (1 + s (l_i - L)) grad l_i with
    L the value, so a sample more than 1 / s below L is pushed to a larger loss. w maximises
    sum_i q_i l_i + H(q) / s, an adversary in penalty form: how far it moves depends on the batch.
    """
    if not strength >= 0:
        raise InputError(f"The strength of a tilt is 0 or more, not {strength}.")
    weights = torch.softmax(strength * losses, dim=0)
    return (weights * losses).sum()
