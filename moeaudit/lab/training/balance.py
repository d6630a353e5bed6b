"""Router losses, one value per layer, over all tokens of a step."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def load_balance(
    logits: Float[Tensor, "tokens experts"], index: Int[Tensor, "tokens top_k"]
) -> Float[Tensor, ""]:
    """N sum_i f_i P_i of one layer: 1 when balanced, N / k when the same k experts always win.

    f_i is the share of all slots that went to expert i, P_i the mean softmax probability of i.
    Taken over the whole step (many documents), it asks for balance over the mix and leaves single
    documents free to prefer experts (Qiu et al., "Demons in the Detail", 2025). Unlike
    transformers' `load_balancing_loss_func` it neither pools layers nor grows with k.
    """
    experts = logits.shape[-1]
    share = torch.bincount(index.reshape(-1), minlength=experts).to(logits.dtype) / index.numel()
    return experts * (share * logits.softmax(-1).mean(0)).sum()


def router_z(logits: Float[Tensor, "tokens experts"]) -> Float[Tensor, ""]:
    """Mean squared log partition of one layer's router logits (Zoph et al., ST-MoE, 2022)."""
    return logits.logsumexp(-1).square().mean()
